"""Work in chunks of rows gives what one go gives."""

import pytest
import torch

from world_models.chunks import in_chunks


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_chunks_are_joined_in_order(rows: int) -> None:
    seen: list[int] = []

    def function(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(a))
        return a + b, a.sum(1)

    a, b = torch.randn(7, 2), torch.randn(7, 2)
    total, rowsum = in_chunks(function, rows, a, b)
    assert torch.equal(total, a + b) and torch.equal(rowsum, a.sum(1))
    assert sum(seen) == 7 and max(seen) == min(rows, 7)
    assert torch.equal(in_chunks(torch.neg, rows, a), -a)
