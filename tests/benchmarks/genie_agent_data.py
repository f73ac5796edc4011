"""`python -m tests.benchmarks.genie_agent_data --json`: worlds from an agent's replay and from random actions.

DreamerV3 learns eight levels of the block world with a goal; as many frames are recorded with random actions. Of each,
Genie learns a world with the true actions, and DreamerV3 is trained in it, rewards included, without another real
frame. Reported: each world's delta PSNR on held-out episodes of either kind and on levels that neither has seen, and
the success of each policy in the real environment, beside that of random actions and of the agent itself. The same
command continues where it stopped.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from actors.envs import make
from actors.policy import load_policy
from actors.trivial_policies import RandomPolicy
from deploy.reports.pretraining.world_evaluation import EVALUATION
from deploy.wiring.config import load_config
from tests.benchmarks.genie_block_world import nexus
from tests.benchmarks.genie_transfer import SEED, score
from tests.benchmarks.genie_transfer import TASK as ANY_LEVEL
from tests.benchmarks.machine import describe, versions
from world_models.checkpoint_files import WORLD, find_model, run_of

TASK = "gym:actors.envs.block_world:BlockWorldLevels-v0"
SOURCES = ("agent", "random")
MEASURED = (*SOURCES, "new levels")
OWN_SIZE = ("--environment.image-size", 0, 0)
"""Frames as they are, which all worlds learn from: enlarged ones have soft edges."""
AGENT = (
    "--preset", "quick", "--mode", "local", *OWN_SIZE, "--model.encoder.mults", 2, 3, "--model.decoder.mults", 2, 3,
    "--model.encoder.depth", 16, "--model.decoder.depth", 16, "--model.rssm.deter", 256,
    "--model.rssm.hidden", 128, "--model.rssm.stoch", 16, "--model.rssm.classes", 16, "--model.horizon", 16,
    "--model.entropy", 0.001, "--learner.train-ratio", 64, "--actor.environments", 8, "--actor.actors", 1,
    "--actor.random-steps", 1500, "--replay.capacity", 40_000,
)  # fmt: skip
"""Two halvings of the frames leave 8x8, a place for each cell; goals are near, so the future is too."""
CLIP = ("--tokenizer.model.frames", "5", "--tokenizer.training.batch-size", "12")
"""Four steps, because a good agent's episodes are short."""
CLIPS = 256


def collect(folder: Path, frames: int) -> None:
    """An agent and its replay, as many random frames, and episodes of both to measure on."""
    agent = folder / "agent"
    nexus("train", TASK, *AGENT, "--frames", frames, "--logdir", agent)
    nexus("record", TASK, *OWN_SIZE, "--frames", frames, "--out", folder / "random")
    for kind in MEASURED:
        task, who = TASK if kind in SOURCES else ANY_LEVEL, ("--policy", agent) if kind == "agent" else OWN_SIZE
        nexus("record", task, *who, "--frames", 8000, "--seed", 1, "--out", _held_out(folder, kind))


def _held_out(folder: Path, kind: str) -> Path:
    return folder / f"{kind.replace(' ', '_')}_held_out"


def world(folder: Path, source: str, updates: int) -> dict[str, Any]:
    """Train the world of a source, and measure it on the held-out episodes of every kind."""
    run = folder / f"world_{source}"
    if not (run / WORLD / EVALUATION).exists():  # written at the end of training
        nexus(
            "pretrain", "genie", "--real-actions", "--data", folder / source, "--logdir", run, *CLIP,
            "--training.threads", 1, *(("--training.updates", updates) if updates else ()),
        )  # fmt: skip
    out = {}
    for kind in MEASURED:
        where = folder / f"world_{source}_on_{kind.replace(' ', '_')}"
        if not (where / EVALUATION).exists():
            nexus("eval", run, "--data", _held_out(folder, kind), "--clips", CLIPS, "--out", where)
        out[kind] = json.loads((where / EVALUATION).read_text())
    return out


def dreamt(folder: Path, source: str, frames: int) -> Path:
    """The run of a policy that is trained in the world of a source."""
    made, run = folder / f"dream_{source}", folder / f"policy_{source}"
    if not made.exists():
        nexus(
            "world", folder / f"world_{source}", "--data", folder / source, "--out", made, "--rewards",
            "--ends-with-reward",
        )  # fmt: skip
        nexus("check-env", f"genie:{made}")
    nexus("train", f"genie:{made}", *AGENT, "--frames", frames, "--logdir", run)
    return run


def scored(run: Path, episodes: int) -> dict[str, Any]:
    """Success of a run's best policy in the real environment."""
    folder = find_model(run)
    shown = load_config(run_of(folder)).environment
    return score(load_policy(folder, mode=False, seed=SEED).policy, episodes, shown, TASK)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.genie_agent_data", description=__doc__)
    parser.add_argument("--logdir", type=Path, default=Path("runs/genie_agent_data"))
    parser.add_argument("--frames", type=int, default=8_000, help="real ones, of either kind")
    parser.add_argument("--dreamt", type=int, default=4_000, help="frames of training in each world")
    parser.add_argument("--updates", type=int, default=0, help="of each of a world's stages; 0: the preset's")
    parser.add_argument("--episodes", type=int, default=300, help="for each success")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    collect(given.logdir, given.frames)
    worlds = {source: world(given.logdir, source, given.updates) for source in SOURCES}
    policies = {source: dreamt(given.logdir, source, given.dreamt) for source in SOURCES}
    success = {
        f"trained in the world of {source} data": scored(run, given.episodes) for source, run in policies.items()
    }
    success["the agent itself"] = scored(given.logdir / "agent", given.episodes)
    environment = make(TASK)
    success["random"] = score(RandomPolicy(environment.action_space, SEED), given.episodes, task=TASK)
    environment.close()
    if not given.json:
        print("\n".join(lines(worlds, success)))
    name = f"trained in the world of {SOURCES[0]} data"
    report = {
        "name": "genie_agent_data", "value": success[name]["success"], "unit": f"success, {name}",
        "device": describe(torch.device("cpu")), "versions": versions(), "success": success, "worlds": worlds,
    }  # fmt: skip
    print(json.dumps(report))


def lines(worlds: dict[str, dict[str, Any]], success: dict[str, dict[str, Any]]) -> list[str]:
    """Two tables in Markdown."""
    out = ["| world of | measured on | PSNR, 4 steps (last frame) | delta PSNR, 4 steps |", "|---|---|---|---|"]
    for source, row in worlds.items():
        for kind, found in row.items():
            low, high = found["delta_psnr_4_interval"]
            out.append(
                f"| {source} | {kind} | {found['psnr_4']:.2f} ({found['copy_psnr_4']:.2f}) | "
                f"{found['delta_psnr_4']:.2f} [{low:.2f}, {high:.2f}] |"
            )
    out += ["", "| policy | success in the real world |", "|---|---|"]
    for name, found in success.items():
        low, high = found["interval95"]
        out.append(f"| {name} | {found['success']:.3f} [{low:.3f}, {high:.3f}] |")
    return out


if __name__ == "__main__":
    main()
