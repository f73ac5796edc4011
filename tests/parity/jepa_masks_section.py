"""Mask samplers with the originals' slips: block sizes exactly, numbers and places of tokens as samples of one law."""

from collections.abc import Callable

import numpy as np
import torch

from tests.parity.check import Check
from tests.parity.jepa_schedules import check_ijepa_schedules
from world_models.jepa.block_masks import BlockMasks
from world_models.jepa.config import BlockMaskConfig, TubeMaskConfig
from world_models.jepa.tube_masks import TubeMasks

BATCHES = 400
IJEPA_BATCH, TUBE_BATCH = 16, 8
TUBE_GRID, TUBELET = (8, 16, 16), 2
"""16 frames at 256 px: the README states the geometry, the file does not hold it."""
TUBES = {"short": TubeMaskConfig(), "long": TubeMaskConfig(blocks=2, scale=(0.7, 0.7))}


def check_ijepa_masks(check: Check) -> None:
    check_ijepa_schedules(check)
    config = BlockMaskConfig(official_slips=True)
    rows = []
    for image, patch, seed, *_ in check.arrays["ijepa_block_sizes"].tolist():
        sizes = BlockMasks(config, image // patch, image // patch).sizes(torch.Generator().manual_seed(seed))
        rows.append([image, patch, seed, *sizes[0], *sizes[1]])
    check.compare("ijepa_block_sizes", np.array(rows))

    grid = check.arrays["stat/context_occupancy"].shape
    sampler, generator = BlockMasks(config, *grid), torch.Generator().manual_seed(0)
    masks = [sampler(IJEPA_BATCH, generator) for _ in range(BATCHES)]
    for name, kind in (("context", 0), ("target", 1)):
        compare_counts(check, f"stat/n_{name}_tokens", [batch[kind].shape[-1] for batch in masks])
        # Of the first block of each image: the blocks of a batch are as large as each other.
        used = np.stack([np.bincount(b[kind][0].flatten(), minlength=grid[0] * grid[1]) for b in masks]) / IJEPA_BATCH
        batches = len(check.arrays[f"stat/n_{name}_tokens"])
        compare_shares(check, f"stat/{name}_occupancy", used.reshape(BATCHES, *grid), batches)


def check_tube_masks(check: Check) -> None:
    rows = []
    for frames, percent, seed, *_ in check.arrays["block_sizes"].tolist():
        sampler = TubeMasks(TubeMaskConfig(scale=(percent / 100, percent / 100)), frames // TUBELET, *TUBE_GRID[1:])
        rows.append([frames, percent, seed, *sampler.size(torch.Generator().manual_seed(seed))])
    check.compare("block_sizes", np.array(rows))
    for kind, config in TUBES.items():
        sampler, generator = TubeMasks(config, *TUBE_GRID, official_slips=True), torch.Generator().manual_seed(0)
        masks = [sampler(TUBE_BATCH, generator) for _ in range(BATCHES)]
        for i, name in enumerate(("context", "target")):
            compare_counts(check, f"stat/{kind}_{name}", [batch[i].shape[-1] for batch in masks])


def compare_counts(check: Check, name: str, ours: list[int]) -> None:
    """Numbers of tokens of many batches, as two samples of one law: mean, deviation, whole distribution, range."""
    sample = np.sort(np.array(ours, np.float64))
    check.compare(name, np.resize(np.array(ours), check.arrays[name].shape), "sampled", distance=law_of(sample))


def law_of(ours: np.ndarray) -> Callable[[np.ndarray], float]:
    """The distance of another sample from a sorted one, in standard errors."""

    def distance(theirs: np.ndarray) -> float:
        room = 0.25 * (ours[-1] - ours[0])
        if theirs.min() < max(1.0, ours[0] - room) or theirs.max() > ours[-1] + room or (theirs % 1).any():
            return float("inf")
        n, m = len(theirs), len(ours)
        share, spread = np.sqrt(1 / n + 1 / m), ours.std()
        kurtosis = np.mean((ours - ours.mean()) ** 4) / spread**4
        mean = abs(theirs.mean() - ours.mean()) / (spread * share)
        deviation = abs(theirs.std() - spread) / (spread * share * np.sqrt((kurtosis - 1) / 4))
        values = np.unique(np.concatenate([theirs, ours]))
        below = [np.searchsorted(np.sort(x), values, side="right") / len(x) for x in (theirs, ours)]
        # Kolmogorov and Smirnov: 2.7 is as rare as 5 standard errors.
        whole = np.abs(below[0] - below[1]).max() / share / 2.7 * 5
        return float(max(mean, deviation, whole))

    return distance


def compare_shares(check: Check, name: str, ours: np.ndarray, batches: int) -> None:
    """How often each patch is used, `[batch row column]` of ours against means over `batches`; what is never used must
    not be."""
    mean, error = ours.mean(0), ours.std(0) * np.sqrt(1 / batches + 1 / len(ours))

    def distance(theirs: np.ndarray) -> float:
        off = np.abs(theirs - mean)
        return float(np.where(off == 0, 0.0, off / np.where(error > 0, error, 1e-300)).max())

    check.compare(name, mean, "sampled", distance=distance)
