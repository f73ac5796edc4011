"""What probes learn from: features of labelled examples, computed in one pass over a dataset.

Legend: B batch, T frames, S pixels a side, C channels, N tokens, D features.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from learner.datasets.batches import Unreadable
from learner.datasets.dataset import Dataset, Example, UnreadableError
from learner.probes.encoders import Encoder
from replay.counted import counted

Represent = Callable[[UInt8[Tensor, "B T S S C"]], Tensor]
"""Frames of a batch to features `[B ...]`."""
Note = Callable[[str, int, int], None]
"""Told of progress: what is done, how much, of how much."""
PIXELS = 32
"""Raw pixels are seen by a linear probe at no more than this many a side."""
_DRAWS = 3  # what a generator is for
_IN_A_ROW = 32


def quiet(what: str, done: int, total: int) -> None:
    """A `Note` that says nothing."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """`features` by name, each `[N ...]`, and labels int64 `[N]` of `classes` classes."""

    features: Mapping[str, Tensor]
    labels: Int[Tensor, " N"]
    classes: int
    unreadable: int = 0
    """Examples that were asked for and could not be read."""

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, numbers: Tensor) -> "Labelled":
        """The examples with these numbers."""
        features = {name: value[numbers] for name, value in self.features.items()}
        return replace(self, features=features, labels=self.labels[numbers])


def labelled(example: Example, dataset: Dataset) -> Example:
    """The example. ValueError: it has no label."""
    if "label" not in example:
        raise ValueError(
            f"{dataset.describe()} has no labels. Sort pictures or videos into a subfolder for each class, record a "
            "key `label`, or use generated:digits or generated:motion."
        )
    return example


def require_labels(dataset: Dataset, seed: int = 0) -> None:
    """ValueError: the first example has no label. One that cannot be read says nothing."""
    with suppress(UnreadableError):
        labelled(dataset.example(0, np.random.default_rng([_DRAWS, seed])), dataset)


@torch.no_grad()
def read(
    dataset: Dataset, represent: Mapping[str, Represent], *, device: torch.device | None = None, examples: int = 0,
    batch_size: int = 64, seed: int = 0, threads: int = 2, memory: float = 8.0, what: str = "features",
    note: Note = quiet, limit: str = "--examples",
) -> Labelled:  # fmt: skip
    """The features of all examples of one pass, or of `examples` of them, which the seed chooses.

    ValueError: there are no labels, the data changes while it is read, too much of it is unreadable, or the features
    would take more than `memory` GB: the message then names the option `limit`, by which fewer are read.
    """
    numbers = chosen(dataset, examples, seed)
    found: dict[str, list[Tensor]] = {name: [] for name in represent}
    labels: list[np.ndarray] = []
    for batch in _batches(dataset, numbers, batch_size, seed, threads):
        frames = torch.from_numpy(np.ascontiguousarray(batch["frames"])).to(device)
        for name, function in represent.items():
            found[name].append(function(frames).float())
        if not labels:
            _require_memory({name: parts[0] for name, parts in found.items()}, len(numbers), memory, limit)
        labels.append(batch["label"])
        note(what, min(len(labels) * batch_size, len(numbers)), len(numbers))
    together = torch.from_numpy(np.concatenate(labels)).to(device)
    features = {name: torch.cat(parts) for name, parts in found.items()}
    left_out = len(numbers) - len(together)
    return Labelled(features=features, labels=together, classes=int(together.max()) + 1, unreadable=left_out)


def chosen(dataset: Dataset, examples: int, seed: int) -> np.ndarray:
    """Numbers of at most `examples` examples (0: all), ascending. ValueError: the data changes while it is read."""
    if dataset.live:
        raise ValueError(
            f"{dataset.describe()} changes while it is read and has no labels; probe on a labelled dataset, such as a "
            "folder with a subfolder for each class."
        )
    if not examples or examples >= len(dataset):
        return np.arange(len(dataset))
    return np.sort(np.random.default_rng([_DRAWS, seed]).permutation(len(dataset))[:examples])


def _require_memory(first: Mapping[str, Tensor], examples: int, memory: float, limit: str) -> None:
    """ValueError: the features of all examples are too many."""
    each = sum(part[0].numel() * 4 for part in first.values())
    if (needed := each * examples / 1e9) > memory:
        raise ValueError(
            f"The features of {counted(examples, 'example')} take {needed:.3g} GB, more than the {memory:g} GB allowed "
            f"by --memory: room for {counted(int(memory * 1e9 / each), 'example')}. Ask for so many with {limit}, or "
            "allow more; without attentive probes an example takes as much as one of its tokens."
        )


def _batches(dataset: Dataset, numbers: np.ndarray, size: int, seed: int, threads: int) -> Iterator[Example]:
    """Each example once, in order; what cannot be read is left out and counted."""
    unreadable = Unreadable(len(dataset))

    def one(number: int) -> Example | UnreadableError:
        try:
            return dataset.example(int(number), np.random.default_rng([_DRAWS, seed, int(number)]))
        except UnreadableError as error:
            return error

    in_a_row = 0
    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="examples") as pool:
        for first in range(0, len(numbers), size):
            good: list[Example] = []
            for made in pool.map(one, numbers[first : first + size]):
                in_a_row = in_a_row + 1 if isinstance(made, UnreadableError) else 0
                if isinstance(made, UnreadableError):
                    unreadable.add(made, in_a_row)
                    continue
                good.append(labelled(made, dataset))
            if good:
                yield {key: np.stack([made[key] for made in good]) for key in ("frames", "label")}


def require_classes(train: Labelled, test: Labelled) -> int:
    """The number of classes. ValueError: there are too few of them, or too few examples to choose by."""
    seen = train.labels.unique()
    if len(seen) < 2:
        raise ValueError(
            f"A probe needs at least 2 classes, but all {counted(len(train), 'training example')} have the label "
            f"{int(seen[0])}."
        )
    if (least := int(torch.bincount(train.labels)[seen].min())) < 2:
        rare = int(seen[torch.bincount(train.labels)[seen].argmin()])
        raise ValueError(
            f"Class {rare} has {counted(least, 'training example')}; a probe needs at least 2 of each class, one to "
            "train and one to choose by. Read more with --examples, or leave the class out."
        )
    return max(train.classes, test.classes)


def split(labels: Int[Tensor, " N"], share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of examples to train on, and of those to choose by: `share` of each class, at least one."""
    rng, fit, choose = np.random.default_rng([_DRAWS, seed, 1]), [], []
    for label in labels.unique().tolist():
        members = rng.permutation(torch.nonzero(labels == label)[:, 0].cpu().numpy())
        count = min(len(members) - 1, max(1, round(share * len(members))))
        choose.append(members[:count])
        fit.append(members[count:])
    parts = (np.sort(np.concatenate(part)) for part in (fit, choose))
    first, second = (torch.from_numpy(part).to(labels.device) for part in parts)
    return first, second


def pooled(encoder: Encoder) -> Represent:
    """The mean token."""

    def represent(frames: Tensor) -> Float[Tensor, "B D"]:
        return encoder(frames).mean(1)

    return represent


def pixels(frames: UInt8[Tensor, "B T S S C"]) -> Float[Tensor, "B D C"]:
    """All pixels, at most 32x32 a frame."""
    return _small(frames).flatten(1, -2)


def differences(frames: UInt8[Tensor, "B T S S C"]) -> Float[Tensor, "B D C"]:
    """The differences of consecutive frames, pixel by pixel."""
    return _small(frames).diff(dim=1).flatten(1, -2)


def without_copies(train: Labelled, test: Labelled, name: str) -> tuple[Labelled, Labelled]:
    """Pixels `[N D C]` as features: of grey pictures, whose channels are alike, one channel."""
    parts = [part.features[name] for part in (train, test)]
    if all(bool((part == part[..., :1]).all()) for part in parts):
        parts = [part[..., :1] for part in parts]
    return tuple(  # type: ignore[return-value]
        replace(whole, features={name: part.flatten(1)}) for part, whole in zip(parts, (train, test), strict=True)
    )


def _small(frames: UInt8[Tensor, "B T S S C"]) -> Float[Tensor, "B T s s C"]:
    """Frames of at most 32x32 pixels, with values 0 to 1."""
    flat = frames.flatten(0, 1).movedim(-1, 1).float() / 255
    if max(flat.shape[2:]) > PIXELS:
        flat = F.interpolate(flat, (PIXELS, PIXELS), mode="bilinear", antialias=True)
    return flat.movedim(1, -1).unflatten(0, frames.shape[:2])


def shuffled(represent: Represent, seed: int) -> Represent:
    """The same features of clips whose frames come in a random order, another for each clip."""
    generator = torch.Generator().manual_seed(seed)

    def represent_shuffled(frames: Tensor) -> Tensor:
        order = torch.rand(frames.shape[:2], generator=generator).argsort(1).to(frames.device)
        return represent(frames.gather(1, order[:, :, None, None, None].expand_as(frames)))

    return represent_shuffled
