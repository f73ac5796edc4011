"""The gates of the block-GRU against their definition."""

import pytest
import torch
from torch import Tensor

from world_models.dreamer.recurrence import gru_update


def plain(gates: Tensor, deter: Tensor) -> Tensor:
    reset, candidate, update = gates.unflatten(-1, (3, -1)).unbind(-2)
    new = torch.tanh(torch.sigmoid(reset) * candidate).transpose(0, 1).flatten(1)
    keep = torch.sigmoid(update - 1).transpose(0, 1).flatten(1)
    return keep * new + (1 - keep) * deter


@pytest.mark.parametrize("blocks", [1, 2])
def test_value_and_gradients_are_those_of_the_definition(blocks: int) -> None:
    gates = torch.randn(blocks, 5, 24 // blocks, requires_grad=True)
    deter = torch.randn(5, 8, requires_grad=True)
    weight = torch.randn(5, 8)
    ours, theirs = gru_update(gates, deter), plain(gates, deter)
    assert torch.allclose(ours, theirs, atol=1e-6)
    pairs = zip(*(torch.autograd.grad(out, (gates, deter), weight) for out in (ours, theirs)), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_a_closed_gate_keeps_the_state_and_an_open_one_takes_the_candidate() -> None:
    gates = torch.tensor([[[100.0, 0.5, -100.0]], [[100.0, 0.5, 100.0]]])  # reset open; update closed, then open
    assert gru_update(gates, torch.tensor([[0.25, 0.25]])).tolist() == [[0.25, pytest.approx(0.462117)]]


def test_half_precision_gates_are_worked_out_in_float32() -> None:
    gates = torch.randn(2, 3, 12, dtype=torch.bfloat16, requires_grad=True)
    out = gru_update(gates, torch.randn(3, 8))
    out.sum().backward()
    assert out.dtype == torch.float32 and gates.grad is not None and gates.grad.dtype == torch.bfloat16
