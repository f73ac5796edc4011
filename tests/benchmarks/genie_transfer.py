"""`python -m tests.benchmarks.genie_transfer --json`: cloning from video without actions, Genie's transfer test.

An expert walks the shortest way to the goal of the block world; only its frames are kept. A latent action model,
trained here on video of random walks or given by `--latent-action`, names the action between each two frames; a network
learns which latent action the expert takes at a frame; a few labelled transitions say what the latent actions are
(arXiv 2402.15391, section 3.3). Success in the environment is measured beside random actions and beside a network of
the same kind that was given all real actions. One thread; CPU seconds are the measure on a busy machine.
"""

import argparse
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from actors.config import EnvironmentConfig
from actors.envs import make
from actors.envs.block_world import MOVES, STEPS, distances, draw, goal_maps, moved, shortest
from actors.evaluation import proportion_interval, run_episodes
from actors.policies.cloned_policy import ClonedPolicy
from actors.trivial_policies import Policy, RandomPolicy
from deploy.commands.pretraining import genie_latent_action
from learner.cloning import clone
from tests.benchmarks.machine import describe, versions
from world_models.genie.action_adapter import ActionAdapter
from world_models.genie.genie import Genie
from world_models.genie.latent_action import LatentActionModel
from world_models.loading import load_model

TASK = "gym:actors.envs.block_world:BlockWorld-v0"
OWN_SIZE = EnvironmentConfig(image_size=(0, 0))
SEED = 1_000_000
REQUIRED = 0.8
"""Share of the success of cloning with all labels."""
_AT_ONCE = 256


def expert_video(episodes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Transitions of an expert: frames `[N 2 S S C]` before and after each move, and the moves `[N]`, as they were
    made."""
    rng = np.random.default_rng(seed)
    maps, places = goal_maps(episodes, rng)
    assert maps.goals is not None, "they have goals"
    away = distances(maps.walls, maps.goals)
    pairs, actions = [], []
    before = draw(maps, places)
    for _ in range(STEPS):
        left = (places != maps.goals).any(1)
        if not left.any():
            break
        action = np.where(left, shortest(away, places, rng), 0)
        places = moved(maps.walls, places, action)
        after = draw(maps, places)
        pairs.append(np.stack([before[left], after[left]], 1))
        actions.append(action[left])
        before = after
    order = rng.permutation(sum(map(len, actions)))
    return np.concatenate(pairs)[order], np.concatenate(actions)[order]


def latent_actions(model: LatentActionModel, pairs: np.ndarray) -> np.ndarray:
    """What the model says of each transition, int64 `[N]`."""
    parts = torch.as_tensor(pairs).split(_AT_ONCE)
    with torch.inference_mode():
        return torch.cat([model.infer(part)[:, 0] for part in parts]).numpy()


def trained(updates: int, folder: Path, seed: int) -> LatentActionModel:
    """`nexus pretrain genie-latent-action` on video of random walks."""
    words = ["--data", "generated:goal_world", "--logdir", str(folder), "--seed", str(seed), "--training.threads", "1"]
    words += ["--training.updates", str(updates)] if updates else []
    if code := genie_latent_action.run([*words, "--probe.every", "0"]):
        raise SystemExit(code)
    return load_latent_action(folder)


def load_latent_action(path: Path) -> LatentActionModel:
    """That of a run of its own, or of a whole world."""
    model: Any = load_model(path)
    found = model.latent_action if isinstance(model, Genie) else model
    assert isinstance(found, LatentActionModel), f"{path} holds no latent action model"
    return found


def score(policy: Policy, episodes: int, shown: EnvironmentConfig = OWN_SIZE, task: str = TASK) -> dict[str, Any]:
    """Success in the block world, `shown` as the policy knows it, with its interval."""
    environment = partial(make, task, shown)
    result = run_episodes([environment] * min(episodes, 64), policy, episodes, SEED)
    reached = result.metrics["is_success"]
    return {"success": fmean(reached), "interval95": proportion_interval(reached), "episodes": episodes}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--latent-action", type=Path, help="a run of nexus pretrain genie-latent-action or genie-dynamics"
    )
    parser.add_argument("--latent-updates", type=int, default=0, help="of the latent action model; 0: the preset's")
    parser.add_argument("--labels", type=int, nargs="+", default=[200], help="numbers of labelled transitions")
    parser.add_argument("--video", type=int, default=6000, help="episodes of the expert")
    parser.add_argument("--updates", type=int, default=2000, help="of each cloned network")
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began = time.process_time()
    with TemporaryDirectory() as folder:
        model = (
            load_latent_action(given.latent_action)
            if given.latent_action
            else trained(given.latent_updates, Path(folder) / "latent_action", given.seed)
        )
    model_seconds = time.process_time() - began
    pairs, actions = expert_video(given.video, given.seed)
    latents = latent_actions(model, pairs)
    count = model.config.actions
    cloned = partial(clone, pairs[:, 0], updates=given.updates, seed=given.seed)
    from_latents = cloned(latents, count)
    rows: list[dict[str, Any]] = []
    for labels in given.labels:
        known, real = (torch.as_tensor(part[:labels]) for part in (latents, actions))
        adapter = ActionAdapter.fit(known, real, count, len(MOVES))
        agreement = float((adapter(torch.as_tensor(latents)).numpy() == actions).mean())
        rows.append({"policy": "latent actions", "labels": labels, "agreement": agreement,
                     **score(ClonedPolicy(from_latents, adapter, given.seed), given.episodes)})  # fmt: skip
        print(line(rows[-1]), flush=True)
    rows.append({"policy": "all labels", "labels": len(actions),
                 **score(ClonedPolicy(cloned(actions, len(MOVES)), seed=given.seed), given.episodes)})  # fmt: skip
    print(line(rows[-1]), flush=True)
    environment = make(TASK)
    chance = score(RandomPolicy(environment.action_space, SEED), given.episodes)
    environment.close()
    rows.append({"policy": "random", "labels": 0, **chance})
    print(line(rows[-1]), flush=True)
    latent, whole = (next(row for row in rows if row["policy"] == name) for name in ("latent actions", "all labels"))
    share = latent["success"] / max(whole["success"], 1e-9)
    apart = latent["interval95"][0] > chance["interval95"][1]
    out = {
        "name": "genie_transfer", "value": share, "unit": "share of the success with all labels",
        "met": bool(apart and share >= REQUIRED), "intervals_apart": apart, "transitions": len(actions), "rows": rows,
        "seed": given.seed, "cpu_seconds": time.process_time() - began, "latent_action_cpu_seconds": model_seconds,
        "device": describe(torch.device("cpu")), "versions": versions(),
    }  # fmt: skip
    if given.json:
        print(json.dumps(out))
    return out


def line(row: dict[str, Any]) -> str:
    low, high = row["interval95"]
    agree = f", latent actions mean the true one in {row['agreement']:.1%}" if "agreement" in row else ""
    return f"{row['policy']:<15}{row['labels']:>7} labels  {row['success']:.3f} [{low:.3f}, {high:.3f}]{agree}"


if __name__ == "__main__":
    main()
