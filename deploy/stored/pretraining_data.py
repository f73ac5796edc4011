"""The examples of a pretraining run: those to train on, and those to measure on."""

from contextlib import ExitStack, suppress
from types import TracebackType

from deploy.stored.datasets import open_dataset
from deploy.wiring.pretraining import PretrainConfig
from learner.datasets.batches import Batches, Unreadable
from learner.datasets.dataset import Clip, Dataset, Example
from learner.datasets.keys import Keys
from learner.datasets.subset import Subset, held_out, recordings_of
from learner.datasets.view import View


class PretrainingData:
    """Opens the data that a configuration names; a context manager.

    `train` has random crops; `reference` has the same images or clips, `held_out` others, both without random crops. Of
    a replay, which may change at any time, no share can be held out. ValueError: the data cannot be used.
    """

    def __init__(self, config: PretrainConfig):
        size, data = config.size, config.data
        self._elsewhere = bool(data.held_out)
        with ExitStack() as opened:
            random, centred = View(size=size, scale=data.scale, aspect=data.aspect, flip=data.flip), View(size=size)
            whole = plain = _open(config, random)
            opened.callback(whole.close)
            if random != centred or config.compares_actions:
                plain = _open_to_measure(config, centred)
                opened.callback(plain.close)
            self.train, self.reference, self.held_out = whole, plain, plain
            if data.held_out:
                self.held_out = _open_to_measure(config, centred, where=data.held_out)
                opened.callback(self.held_out.close)
            elif data.where.startswith("generated:"):
                self.held_out = _open_to_measure(config, centred, "test")
                opened.callback(self.held_out.close)
            elif not whole.live:
                kept, out = held_out(recordings_of(whole), config.probe.held_out, config.seed)
                if len(out):
                    self.train, self.reference = Subset(whole, kept), Subset(plain, kept)
                    self.held_out = Subset(plain, out)
            sources = [whole] if self.held_out is plain or isinstance(self.held_out, Subset) else [whole, self.held_out]
            self.unreadable = Unreadable(sum(int(recordings_of(one)[-1]) + 1 for one in sources))
            self._opened = opened.pop_all()

    def __enter__(self) -> "PretrainingData":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def require_readable(self) -> None:
        """ValueError: nothing can be read of what there is to train on. A replay may still be empty."""
        if not self.train.live:
            Batches(self.train, size=1, seed=0, threads=0).batch(0)

    def describe(self) -> str:
        """What was found, one line."""
        if self._elsewhere:
            return f"{self.train.describe()}; measured on {self.held_out.describe()}"
        if self.train.live:
            return f"{self.train.describe()}, none of them held out"
        if self.held_out is self.reference:
            return f"{self.train.describe()}, none held out"
        return f"{self.train.describe()}; held out: {len(self.held_out):,}"


def first_example(config: PretrainConfig) -> Example:
    """An example, for the widths of its actions and states."""
    dataset = _open(config, View(size=config.size))
    try:
        return Batches(dataset, size=1, seed=config.seed, threads=0).batch(0)
    finally:
        dataset.close()


def _open_to_measure(config: PretrainConfig, view: View, split: str = "train", where: str = "") -> Dataset:
    """With actions that the model is not shown, if it is known what they are."""
    if config.compares_actions:
        with suppress(ValueError):
            return _open(config, view, split, where, conditions=True)
    return _open(config, view, split, where)


def _open(
    config: PretrainConfig, view: View, split: str = "train", where: str = "", conditions: bool = False
) -> Dataset:
    """The data at `where`, by default those to train on."""
    data = config.data
    where = where or data.where
    clip = Clip(frames=config.frames, stride=data.stride, fps=data.fps)
    conditions = conditions or config.conditions
    keys = Keys(frames=data.frames, actions=data.actions, states=data.states, conditions=conditions)
    dataset = open_dataset(where, clip=clip, view=view, keys=keys, split=split, task=data.task)
    found = getattr(dataset, "keys", None)  # of recordings; pictures and videos have none
    if found is not None and not found.frames:
        dataset.close()
        raise ValueError(
            f"{where} has no images, only vectors; pretraining needs images, e.g. the run of `nexus train "
            "dmc_walker_walk --preset dmc_vision`."
        )
    return dataset
