"""Records episodes of a task, played by a policy, into a folder that models are pretrained on."""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from actors.batch_environment import BatchEnvironment, score_text
from actors.evaluation import FIRST_INDEX, PICTURES
from actors.pool_environment import PoolEnvironment
from actors.trivial_policies import Policy
from actors.vector import VectorEnvironment
from actors.video import write_video
from deploy.interrupt import Interrupt
from deploy.reports.display import UNKNOWN, Display, duration, short
from deploy.stored.recording import Recording
from deploy.wiring.config import RunConfig
from deploy.wiring.task import FirstEnvironment, TaskSpaces, pool_maker
from replay.step import Field, Rows, Schema
from world_models.dataclass_json import to_json

_INDEX = FIRST_INDEX << 1  # of the first environment: its seeds are those of no training and no evaluation
_SAVE = 20.0  # seconds between indices
_SPEED = ("pool", "pool_threads", "check_steps")  # options that change nothing that is recorded


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a session added, and what there is now."""

    frames: int
    """Of this session."""
    seconds: float
    index: Mapping[str, Any]
    interrupted: bool


def facts(config: RunConfig, spaces: TaskSpaces, policy: str, actions: str) -> dict[str, Any]:
    """What is recorded, for the index: a recording is continued only with the same."""
    environment = {name: value for name, value in to_json(config.environment).items() if name not in _SPEED}
    return {
        "task": config.task, **spaces.to_json(), "policy": policy, "actions": actions, "seed": config.seed,
        "environment": environment,
    }  # fmt: skip


def schema_of(spaces: TaskSpaces) -> Schema:
    """The keys of a recorded step."""
    groups = [{key: Field(dtype=s.dtype, shape=s.shape) for key, s in part.items()} for part in spaces]
    schema = Schema.transitions(*groups)
    return Schema(fields={key: field for key, field in schema.fields.items() if key != "version"}, latents={})


def record(
    config: RunConfig, environment: FirstEnvironment, policy: Policy, recording: Recording, frames: int,
    video: Path | None = None,
) -> Recorded:  # fmt: skip
    """Record until there are `frames` steps, or until a signal asks to stop; what was added before an error stays.
    `video` gets what this session saw of the first environment's first episode.

    CannotDrawError: there can be no video. OSError: nothing more can be written.
    """
    interrupt, pictures = Interrupt(), list[np.ndarray]()
    with (
        interrupt.listening(),
        recording,
        closing(_environments(config, environment, recording.episodes)) as environments,
        _Progress(config.task, frames, recording) as progress,
    ):
        began = saved = time.monotonic()
        had, first = recording.steps, environments.episodes[0] + 1
        carry, taken = policy.initial(len(environments)), None
        for draw in count(had):  # other draws than those of earlier sessions
            rows = environments.step(taken)
            carry, taken, _ = policy.act(carry, rows, rows["is_first"], draw)
            wanted = min(len(environments), frames - recording.steps)
            recording.add(rows | _without_last(taken, rows["is_last"]), wanted)
            if video and environments.episodes[0] == first and len(pictures) < PICTURES:
                pictures.append(environments.render(0))
            progress.show()
            if interrupt.asked or recording.steps == frames:
                break
            if time.monotonic() - saved > _SAVE:
                recording.save()
                saved = time.monotonic()
    seconds = time.monotonic() - began
    if video:
        write_video(video, pictures)
    return Recorded(frames=recording.steps - had, seconds=seconds, index=recording.index(), interrupted=interrupt.asked)


def _environments(config: RunConfig, first: FirstEnvironment, episodes: int) -> BatchEnvironment:
    """The environments, whose next episodes are none of the first `episodes` of any of them."""
    indices = [_INDEX + i for i in range(config.actor.environments)]
    environments: BatchEnvironment
    if pool := pool_maker(config):
        first.close()
        check = config.environment.check_steps
        environments = PoolEnvironment(partial(pool, len(indices)), config.seed, indices, check=check)
    else:
        environments = VectorEnvironment([first] * len(indices), config.seed, indices)
    environments.episodes = [episodes - 1] * len(indices)
    return environments


def _without_last(actions: Rows, last: np.ndarray) -> Rows:
    """The actions, zero where an episode has ended."""
    if not last.any():
        return actions
    actions = {key: value.copy() for key, value in actions.items()}
    for value in actions.values():
        value[last] = 0
    return actions


class _Progress(Display):
    """How much is recorded, and how fast."""

    def __init__(self, task: str, frames: int, recording: Recording) -> None:
        super().__init__(name=task, total=frames, unit="frames", title="recording")
        self._recording = recording

    def show(self) -> None:
        self.done(self._recording.steps)

    def numbers(self) -> list[tuple[str, str]]:
        whole, eta = self._recording.whole, self.eta()
        score = score_text(fmean(one["return"] for one in whole)) if whole else UNKNOWN
        return [
            ("frames/s", short(self.pace())),
            ("episodes", f"{len(whole):,}"),
            ("mean score", score),
            ("elapsed", self.elapsed()),
            ("ETA", UNKNOWN if eta is None else duration(eta)),
        ]
