"""The examples that `nexus look` shows. Legend: B examples, T frames, S pixels a side, C channels, n windows."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from deploy.stored.pretraining_data import PretrainingData
from deploy.stored.sources import open_sources
from deploy.wiring.config import load_config
from deploy.wiring.config_file import read_config
from deploy.wiring.pretraining import (
    DataConfig,
    GenieDynamicsRun,
    IJEPARun,
    LatentRun,
    PretrainConfig,
    VJEPA2ACRun,
    VJEPA2Run,
)
from deploy.wiring.stores import replay_directory
from learner.datasets.batches import Batches
from learner.datasets.dataset import Dataset
from learner.datasets.subset import Subset, recordings_of
from learner.pretrain.config import ProbeConfig
from replay.layout import annotate
from replay.reading.reader import Reader
from replay.redis_url import URLS
from replay.step import Rows
from replay.store import ShardDownError
from world_models.checkpoint_files import run_of
from world_models.dreamer.agent import Dreamer
from world_models.frames import with_channels

RUNS: dict[str, type[PretrainConfig]] = {
    "ijepa": IJEPARun,
    "vjepa2": VJEPA2Run,
    "vjepa2_ac": VJEPA2ACRun,
    "genie": GenieDynamicsRun,
    "latent_world": LatentRun,
}
"""By family, those that learn from images or clips."""
FRAMES = 16
"""Of clips of latent worlds, which were trained on fewer, where recordings are so long."""
_AT_ONCE = 64
_ATTEMPTS = 20  # reads of a window: a run may evict steps meanwhile
_NEAR = 500  # steps to another of the same stream that is perhaps of the same episode
_ENOUGH = 5  # steps that are not near


class NothingLeftError(ValueError):
    """All recordings are shown, none are left to look up."""


@dataclass(frozen=True)
class Examples:
    """Where images or clips come from."""

    shown: Dataset
    reference: Dataset
    """Among which neighbours are looked for."""
    apart: bool
    """Whether the model was not trained on what is shown."""
    channels: int

    def __str__(self) -> str:
        return self.shown.describe()

    def batch(self, count: int, seed: int, device: torch.device) -> dict[str, Tensor]:
        """At most `count` of those to be shown."""
        batches = Batches(self.shown, size=min(count, len(self.shown)), seed=seed, threads=0)
        return self._moved(batches.batch(0), device)

    def without_shown(self, count: int, seed: int) -> "Examples":
        """With a reference that lacks the recordings of the first `count` of `batch`, where it is of the same data.
        NothingLeftError: it has no others."""
        if self.reference is not self.shown or self.shown.live:  # examples of what changes have no numbers
            return self
        size = min(count, len(self.shown))
        recordings = recordings_of(self.shown)
        seen = recordings[Batches(self.shown, size=size, seed=seed, threads=0).chosen(0)]
        rest = np.flatnonzero(~np.isin(recordings, seen))
        if not len(rest):
            raise NothingLeftError(
                f"{self} are all shown, none are left to look up; give a --count below {size}, or --data with more."
            )
        return replace(self, reference=Subset(self.reference, rest))

    def others(self, count: int, seed: int, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """At most `count` of the reference, in batches."""
        count = min(count, len(self.reference))
        size = min(_AT_ONCE, count)
        batches = Batches(self.reference, size=size, seed=seed + 1, threads=0)
        for number in range(-(-count // size)):
            rows = count - number * size
            yield {key: value[:rows] for key, value in self._moved(batches.batch(number), device).items()}

    def _moved(self, example: dict[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
        batch = {key: torch.from_numpy(np.ascontiguousarray(value)).to(device) for key, value in example.items()}
        return batch | {"frames": with_channels(batch["frames"], self.channels, "the model's channels")}


@contextmanager
def examples_of(folder: Path, model: Any, where: str) -> Iterator[Examples]:
    """The examples held out from the run that a checkpoint is of, or those of `where`. ValueError: there is no run and
    no `where`, there is nothing to read, or the actions do not fit the model."""
    config, own = _config(folder, model, where)
    with ExitStack() as stack:
        data = stack.enter_context(_opened(config, where))
        apart = is_other(where, own) or data.held_out is not data.reference
        channels = getattr(model, "channels", 0) or model.encoder.channels
        found = Examples(data.held_out, data.reference, apart, channels)
        _require_fit(model, found)
        yield found


def is_other(where: str, *own: object) -> bool:
    """Whether data are named, and neither lie in one of a run's own nor hold one."""
    return bool(where) and not any(_overlap(where, str(one)) for one in own if str(one))


def _overlap(where: str, own: str) -> bool:
    if where.startswith(URLS) or own.startswith(URLS):
        return not set(where.split(",")).isdisjoint(own.split(","))
    a, b = Path(where).resolve(), Path(own).resolve()
    return a.is_relative_to(b) or b.is_relative_to(a)


def learned_from(run: Path) -> list[object]:
    """The run of an agent, and where the steps that it learned from are kept."""
    with suppress(ValueError):
        config = replace(load_config(run), logdir=str(run))  # its path may have changed
        return [run, config.replay.store if config.replay.kind == "redis" else replay_directory(config), config.offline]
    return [run]


def _config(folder: Path, model: Any, where: str) -> tuple[PretrainConfig, str]:
    """The configuration of the run, with the data to be shown, and where its own data are."""
    kind, run = RUNS[model.family], None
    with suppress(ValueError):
        run = run_of(folder)
    if run is None and not where:
        raise ValueError(f"{folder} is in no run whose data could be shown; name some with --data.")
    config = read_config(kind, run) if run else kind(**{"model": model})
    own = config.data.where
    if where:
        data = replace(config.data if run else DataConfig(), where=where, held_out="")
        config = replace(config, data=data, probe=replace(ProbeConfig(), held_out=0.0))
    return config, own


def _opened(config: PretrainConfig, where: str) -> PretrainingData:
    """Clips longer than those of training, where a model can use them and the data have them."""
    try:
        if isinstance(config, LatentRun) and config.frames < FRAMES:
            with suppress(ValueError), ExitStack() as stack:
                longer = replace(config, model=replace(config.model, frames=FRAMES))
                data = stack.enter_context(PretrainingData(longer))
                count = min(_AT_ONCE, len(data.held_out))
                Batches(data.held_out, size=count, seed=0, threads=0).batch(0)  # those of files may be too short
                stack.pop_all()
                return data
        return PretrainingData(config)
    except ValueError as error:
        if where:
            raise
        raise ValueError(f"{str(error).rstrip('.')}. Those are the run's own data; name others with --data.") from error


def _require_fit(model: Any, found: Examples) -> None:
    if not _takes_actions(model):
        return
    example = Batches(found.shown, size=1, seed=0, threads=0).batch(0)
    for key, wanted in (("actions", _takes_actions(model)), ("states", int(getattr(model, "state", 0)))):
        width = example[key].shape[-1] if key in example else 0
        if wanted and width != wanted:
            raise ValueError(
                f"{found} has {key} of {width} numbers, the model takes {wanted}; name data with --data of the task "
                "that it was trained on."
            )


def _takes_actions(model: Any) -> int:
    """Numbers in a recorded action; 0: the model sees none."""
    if model.family == "genie":
        return int(model.real_actions)
    return int(getattr(model, "action", 0))


class Place(NamedTuple):
    """Of a stored step."""

    shard: int
    stream: int
    step: int


def windows(
    readers: list[Reader], agent: Dreamer, count: int, length: int, seed: int, where: str, apart: Sequence[Place] = ()
) -> tuple[Rows, list[Place]]:
    """At most `count` different sequences `[n length ...]` of stored steps, uniformly drawn, with latents of their
    first step (0 if none are stored), and where they begin. Those that lie in one episode come first; those that begin
    less than 500 steps from a place of `apart` are left out, unless hardly any others are stored. ValueError: they do
    not fit the agent, or there are too few steps."""
    for reader in readers:
        _require_spaces(reader, agent, where)
    starts = [
        (number, stream, range(steps.start, steps.stop - length + 1))
        for number, reader in enumerate(readers)
        for stream, steps in sorted(reader.streams().items())
        if len(steps) >= length
    ]
    if not starts:
        longest = max((len(steps) for reader in readers for steps in reader.streams().values()), default=0)
        raise ValueError(
            f"{where} has no {length} stored steps in a row, at most {longest}; let the run collect more, or name "
            "other data with --data."
        )
    ends = np.cumsum([len(steps) for _, _, steps in starts])
    total = int(ends[-1])
    drawn = list[Place]()
    for number in np.random.default_rng([seed, 5]).choice(total, min(total, count * _ATTEMPTS), replace=False).tolist():
        shard, stream, steps = starts[part := int(np.searchsorted(ends, number, side="right"))]
        drawn.append(Place(shard, stream, steps[number - int(ends[part]) + len(steps)]))
    far = [place for place in drawn if not any(_near(place, other) for other in apart)]
    found, places = list[Rows](), list[Place]()
    for place in far if len(far) >= _ENOUGH else drawn:
        if len(found) == count:
            break
        with suppress(ValueError, ShardDownError):  # damaged, evicted meanwhile, or out of reach
            found.append(readers[place.shard].read(place.stream, place.step, length))
            places.append(place)
    if not found:
        raise ValueError(f"No steps of {where} can be read; nexus replay inspect {where} says why.")
    latents, c = readers[0].schema.latents, agent.config.rssm
    rows = {key: np.stack([one[key][0] if key in latents else one[key] for one in found]) for key in found[0]}
    if rows.get("deter", np.zeros((0, 0))).shape[1:] != (c.deter,) or rows["stoch"].shape[1:] != (c.stoch,):
        rows |= {"deter": np.zeros((len(found), c.deter), np.float32), "stoch": np.full((len(found), c.stoch), -1)}
    rows = annotate(rows)
    order = np.argsort(rows["is_first"][:, 2:].any(1), kind="stable")
    return {key: value[order] for key, value in rows.items()}, [places[k] for k in order]


def _near(a: Place, b: Place) -> bool:
    return a[:2] == b[:2] and abs(a.step - b.step) < _NEAR


@contextmanager
def replay_of(where: str) -> Iterator[list[Reader]]:
    """The shards of a stored replay. ValueError: there is none."""
    with ExitStack() as stack:
        try:
            opened = open_sources(where)
        except ShardDownError as error:
            raise ValueError(str(error)) from error
        except ValueError as error:
            raise ValueError(f"{str(error).rstrip('.')}. Name another stored replay with --data.") from error
        yield [stack.enter_context(closing(reader)) for reader in opened]


def _require_spaces(reader: Reader, agent: Dreamer, where: str) -> None:
    spaces = {**agent.observation_space, **agent.action_space}
    fields = reader.schema.fields
    for key, space in spaces.items():
        there = fields.get(key)
        if there is None or tuple(there.shape) != tuple(space.shape):
            found = "lacks it" if there is None else f"has {list(there.shape)}"
            raise ValueError(
                f"The agent knows {key!r} of shape {list(space.shape)}; {where} {found}. Name the replay of a run on "
                "the same task with --data."
            )
