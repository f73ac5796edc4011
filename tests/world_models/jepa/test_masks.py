"""Masks: what every sampler guarantees, and what the originals' slips change."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from world_models.jepa.block_masks import BlockMasks
from world_models.jepa.config import BlockMaskConfig, TubeMaskConfig
from world_models.jepa.tube_masks import TubeMasks


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(2, 12), columns=st.integers(2, 12), batch=st.integers(1, 4), targets=st.integers(1, 4),
    contexts=st.integers(1, 2), min_keep=st.integers(0, 20), slips=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_block_masks_are_ascending_tokens_of_the_image(
    rows: int, columns: int, batch: int, targets: int, contexts: int, min_keep: int, slips: bool, seed: int
) -> None:
    config = BlockMaskConfig(targets=targets, contexts=contexts, min_keep=min_keep, official_slips=slips)
    sample = BlockMasks(config, rows, columns)
    masks = sample(batch, generator(seed))
    assert masks.context.shape[:2] == (contexts, batch) and masks.target.shape[:2] == (targets, batch)
    for ids in masks:
        assert ids.dtype == torch.int64 and (ids.diff(dim=-1) > 0).all()
        assert ids.numel() and ids.min() >= 0 and ids.max() < rows * columns
    again = sample(batch, generator(seed))
    assert all(torch.equal(a, b) for a, b in zip(masks, again, strict=True))


def test_targets_are_blocks_and_contexts_avoid_them() -> None:
    masks = BlockMasks(BlockMaskConfig(), 16, 16)(32, generator())
    used = torch.zeros(32, 256, dtype=torch.bool)
    for block in masks.target:
        used.scatter_(1, block, True)
        row, column = block // 16, block % 16
        height, width = (row.amax(1) - row.amin(1) + 1), (column.amax(1) - column.amin(1) + 1)
        assert (height * width == block.shape[1]).all()  # full rectangles
    assert not used.gather(1, masks.context[0]).any()
    assert masks.context.shape[-1] > 10


def test_the_slips_of_the_original_and_what_the_paper_says() -> None:
    """In the original, scale and aspect rise together and the last row and column stay empty."""
    for slips in (True, False):
        sample = BlockMasks(BlockMaskConfig(official_slips=slips), 16, 16)
        seen = torch.zeros(256, dtype=torch.long)
        g = generator()
        for _ in range(60):
            for ids in sample(8, g):
                seen += ids.flatten().bincount(minlength=256)
        grid = seen.view(16, 16)
        edge = torch.cat([grid[-1], grid[:, -1]])
        assert (edge == 0).all() if slips else (edge > 0).all()
        sizes = [sample.sizes(generator(seed))[0] for seed in range(300)]
        area, ratio = torch.tensor([(h * w, h / w) for h, w in sizes]).T
        correlation = torch.corrcoef(torch.stack([area, ratio]))[0, 1]
        assert correlation > 0.6 if slips else abs(correlation) < 0.3


def test_cut_contexts_are_used_evenly_unless_as_in_the_original() -> None:
    """Contexts are cut to the batch's shortest: their first tokens in the original, a random choice here."""
    last_rows = {}
    for slips in (True, False):
        sample, g = BlockMasks(BlockMaskConfig(official_slips=slips), 16, 16), generator()
        rows = torch.cat([sample(16, g).context.flatten() // 16 for _ in range(60)])
        last_rows[slips] = float((rows.bincount(minlength=16)[-6:].sum()) / rows.bincount().sum())
    assert last_rows[True] < 0.25 < last_rows[False]


def test_a_context_overlaps_targets_only_where_nothing_else_is_left() -> None:
    config = BlockMaskConfig(targets=1, target_scale=(1.0, 1.0), target_aspect=(1.0, 1.0), min_keep=3)
    masks = BlockMasks(config, 4, 4)(2, generator())
    assert masks.target.shape[-1] == 16 and masks.context.shape[-1] > 3


@settings(max_examples=40, deadline=None)
@given(
    times=st.integers(1, 6), rows=st.integers(2, 8), columns=st.integers(2, 8), batch=st.integers(1, 4),
    blocks=st.integers(1, 5), slips=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_tube_masks_divide_the_clip(
    times: int, rows: int, columns: int, batch: int, blocks: int, slips: bool, seed: int
) -> None:
    masks = TubeMasks(TubeMaskConfig(blocks=blocks), times, rows, columns, slips)(batch, generator(seed))
    for ids in masks:
        assert len(ids) == batch and (ids.diff(dim=-1) > 0).all() and ids.max() < times * rows * columns
    both = torch.cat(list(masks), 1).sort(1).values
    assert (both.diff(dim=1) > 0).all()  # no token is context and target
    if batch == 1:
        assert both.shape[1] == times * rows * columns


def test_tubes_last_the_whole_clip() -> None:
    context, target = TubeMasks(TubeMaskConfig(), 4, 8, 8)(1, generator())
    for ids in (context, target):
        per_frame = [ids[ids // 64 == t] % 64 for t in range(4)]
        assert all(torch.equal(frame, per_frame[0]) for frame in per_frame)


def test_blocks_that_leave_no_context_are_refused() -> None:
    with pytest.raises(ValueError, match="leave no context"):
        TubeMasks(TubeMaskConfig(blocks=1, scale=(1.0, 1.0), aspect=(1.0, 1.0)), 2, 4, 4)(2, generator())
    with pytest.raises(ValueError, match="2x2"):
        BlockMasks(BlockMaskConfig(), 1, 8)
