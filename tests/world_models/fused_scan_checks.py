"""Tests of the scan's kernels that import Triton; `test_fused_scan.py` runs them in a process of their own."""

from dataclasses import replace

import pytest
import torch

from world_models.dreamer.config import RSSMConfig, sized
from world_models.dreamer.kernels.choice import fused_walk
from world_models.dreamer.kernels.fused import choose_tiles
from world_models.dreamer.recurrence import Kernels
from world_models.dreamer.rssm import RSSM


def test_what_they_cannot_do_is_refused() -> None:
    config = RSSMConfig(deter=16, hidden=8, stoch=2, classes=4, blocks=2)
    for rssm, rows, reason in (
        (RSSM(config, 2, 3), 4, "they run on a GPU and not on cpu"),
        (RSSM(config, 2, 3).double(), 4, "they do not compute in torch.float64"),
        (RSSM(replace(config, dynamics_layers=0), 2, 3), 4, "they need rssm.dynamics_layers of at least 1"),
        (RSSM(config, 2, 3), 129, "they take at most 128 sequences"),
    ):
        with pytest.raises(ValueError, match=f"cannot do this one: {reason}. Set learner.fused_scan to False"):
            fused_walk(rssm, rows)


@pytest.mark.parametrize("size", ["size1m", "size12m", "size200m"])
@pytest.mark.parametrize("rows", [1, 16, 40, 128])
def test_all_programs_run_at_once(size: str, rows: int) -> None:
    c = sized(size).rssm
    own, first, bias = ((c.blocks, c.deter // c.blocks, c.deter // c.blocks), (c.deter, c.hidden), (2, c.hidden))
    made = torch.empty(1).expand  # of any shape, without memory
    kernels = Kernels((), made(bias), made(bias), made(1), (made(own),), (), (), (made(first),), (), ())
    tiles = choose_tiles(kernels, rows, 132)
    assert tiles.programs * -(-rows // tiles.rows) <= 132 and tiles.rows >= 16 and tiles.programs >= 32
