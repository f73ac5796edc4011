"""Scores a policy inside its world model first: what it imagines to get, and what it then gets."""

import json
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from actors.evaluation import PARALLEL, run_episodes
from deploy.reports.episode_progress import EpisodeProgress
from deploy.reports.imagined.comparison import Comparison, summed
from deploy.reports.imagined.figure import comparison_figure
from deploy.reports.imagined.starts import StartStates
from deploy.reports.summary import describe_protocol
from deploy.wiring.config import load_config
from deploy.wiring.task import FirstEnvironment, pool_maker
from learner.imagined_returns import imagined_rewards
from replay.counted import counted
from replay.files.whole_file import whole_file
from world_models.checkpoint_files import run_of
from world_models.dreamer.acting import ActingModel
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.policy import DreamerPolicy
from world_models.dreamer.rssm import State
from world_models.loading import load_world_model

NAME = "imagined"
"""Of the files."""


@dataclass(frozen=True, kw_only=True)
class ImaginedEvaluation:
    """How a policy is compared."""

    episodes: int
    starts: int
    """States of each episode from which it imagines."""
    horizon: int
    """Steps; 0: as many as in training."""
    rollouts: int
    """Imagined ones from each state, whose mean counts."""
    seed: int
    out: Path | None
    """Folder for imagined.json and imagined.png; None: the run's."""


def evaluate_imagined(path: Path, settings: ImaginedEvaluation) -> Comparison:
    """Play fresh episodes with the actor of a whole agent, the newest of a run; from some of their states let it
    imagine the same number of steps; print and save both. ValueError: there is no such agent, or too few states."""
    loaded = load_world_model(path)
    agent = loaded.model
    if not isinstance(agent, Dreamer):
        raise ValueError(
            f"{loaded.folder} holds a model of family {loaded.document.family.name!r}, which has no policy of its own "
            "to imagine with; give a run of nexus train."
        )
    run = run_of(loaded.folder)
    config = replace(load_config(run), seed=settings.seed)
    out, horizon = settings.out or run, settings.horizon or agent.config.imagination_length
    parallel = min(PARALLEL, settings.episodes)
    quota = [settings.episodes // parallel + (i < settings.episodes % parallel) for i in range(parallel)]
    policy = DreamerPolicy(ActingModel.sharing(agent), seed=settings.seed)
    with closing(FirstEnvironment(config)) as first:
        if 0 < first.step_limit < horizon:
            raise ValueError(
                f"No state of {config.task} can be compared: a time limit ends its episodes after {first.step_limit} "
                f"steps, within the horizon of {horizon}. Give a --horizon well below {first.step_limit}."
            )
        watched = StartStates(policy, quota, settings.starts, horizon, settings.seed, first.step_limit)
        print(f"Agent {loaded.folder}, {config.task}: {horizon} steps imagined by its actor, and then really taken")
        with EpisodeProgress("real", settings.episodes) as progress:
            played = run_episodes(
                [first] * parallel, watched, settings.episodes, settings.seed, pool=pool_maker(config),
                check=config.environment.check_steps, watch=progress.update,
            )  # fmt: skip
    if not watched.found:
        raise ValueError(
            f"Of {counted(settings.episodes, 'episode')} no state can be compared: a time limit ends all within "
            f"{horizon} steps; lower --horizon."
        )
    found = _compared(agent, watched, horizon, settings)
    print(f"  whole episodes: {played}")
    print(*(f"  {line}" for line in found.lines()), sep="\n")
    left_out = f", {counted(watched.cut, 'more')} too near to a time limit left out" if watched.cut else ""
    print(f"  {describe_protocol(played.protocol)}; {counted(len(found.error), 'start')}{left_out}, "
          f"{counted(settings.rollouts, 'rollout')} each")  # fmt: skip
    document = {
        "checkpoint": str(loaded.folder), "task": config.task, "horizon": horizon, "rollouts": settings.rollouts,
        "seed": settings.seed, "cut": watched.cut, "episodes": {"scores": played.scores, "protocol": played.protocol},
        **found.to_json(),
    }  # fmt: skip
    with whole_file(out / f"{NAME}.json") as fresh:
        fresh.write_text(json.dumps(document, indent=2))
    with whole_file(out / f"{NAME}.png") as fresh:
        comparison_figure(found, config.task).savefig(fresh, dpi=130)
    print(f"  {out / f'{NAME}.json'}\n  {out / f'{NAME}.png'}")
    return found


def _compared(agent: Dreamer, watched: StartStates, horizon: int, settings: ImaginedEvaluation) -> Comparison:
    starts, real = zip(*watched.found, strict=True)
    state = State(*(torch.from_numpy(np.stack([getattr(one, name) for one in starts])) for name in State._fields))
    imagined = imagined_rewards(agent, state, horizon, settings.rollouts, settings.seed)
    return Comparison(
        imagined=summed(imagined.rewards.mean(1)), real=summed([one.rewards for one in real]),
        episode=np.array([one.episode for one in starts]), step=np.array([one.step for one in starts]),
        imagined_goes_on=imagined.goes_on[:, :, -1].mean(1),
        real_goes_on=np.array([one.goes_on for one in real]),
    )  # fmt: skip
