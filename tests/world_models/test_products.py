"""Products of many rows by oneDNN are those of torch, forward and backward, and are counted."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from learner.cost.counting import Counting, total
from world_models.chunks import whole
from world_models.products import ONEDNN, ROWS, ROWS_WITH_GRADIENTS, linear

pytestmark = pytest.mark.skipif(ONEDNN is None, reason="torch was built without oneDNN")


def operands(rows: int, inputs: int = 130, outputs: int = 65) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return (
        torch.randn(rows // 8, 8, inputs, generator=generator),
        torch.randn(outputs, inputs, generator=generator).requires_grad_(),
        torch.randn(outputs, generator=generator).requires_grad_(),
    )


@pytest.mark.parametrize("seen", [False, True])
def test_values_and_gradients_are_those_of_torch(seen: bool) -> None:
    x, weight, bias = operands(ROWS_WITH_GRADIENTS + 8)
    x.requires_grad_(seen)
    ours, theirs = linear(x, weight, bias), F.linear(x, weight, bias)
    assert "_Linear" in type(ours.grad_fn).__name__
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    wanted = [weight, bias, *([x] if seen else [])]
    by = torch.cos(theirs.detach())
    for mine, other in zip(
        torch.autograd.grad(ours, wanted, by), torch.autograd.grad(theirs, wanted, by), strict=True
    ):  # fmt: skip
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=2e-3)


def test_which_products_are_its_own() -> None:
    x, weight, bias = operands(ROWS)

    def calls(x: Tensor) -> int:
        with torch.no_grad():
            work = total(Counting().count(lambda: linear(x, weight, bias)).values())
        assert work.flops == 2 * x.numel() * len(weight)
        return sum(count for kind, count in work.kinds.items() if "mkldnn" in str(kind.operator))

    assert calls(x) == 1
    assert calls(x[:-1]) == calls(x.transpose(0, 1)) == 0  # fewer rows, and rows that do not follow one another
    with whole():  # a tensor that stands for one of a GPU
        assert calls(x) == 0
    half = linear(x.double(), weight.double(), bias.double())
    torch.testing.assert_close(half.float(), F.linear(x, weight, bias), rtol=1e-4, atol=1e-4)
