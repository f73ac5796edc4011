"""The gates of the block-GRU.

Legend: N rows, D deter, G blocks, P = D / G, Q = 3 * P gates of a block.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def by_block(x: Float[Tensor, "N D"], blocks: int) -> Float[Tensor, "G N P"]:
    """A view with the block axis first."""
    return x.view(len(x), blocks, -1).transpose(0, 1)


def tanh_(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """In place, as `2 sigmoid(2 x) - 1`: on a CPU torch's own takes six times as long."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


def gates_(
    gates: Float[Tensor, "... Q"], candidates: Float[Tensor, "... P"]
) -> tuple[Float[Tensor, "... P"], Float[Tensor, "... P"]]:
    """Apply the gates in place, reset and update in `gates`, the new values in `candidates`; returns update and new."""
    reset, candidate, update = gates.unflatten(-1, (3, -1)).unbind(-2)
    torch.mul(candidate, reset.sigmoid_(), out=candidates)
    return update.sub_(1).sigmoid_(), tanh_(candidates)


def gate_factors(
    gates: Float[Tensor, "... Q"], candidates: Float[Tensor, "... P"], old: Float[Tensor, "... P"]
) -> tuple[Float[Tensor, "... 3 P"], Float[Tensor, "... P"]]:
    """What the gradient of the new state is multiplied by to make those of the gates before `gates_`, and of the old
    state."""
    reset, candidate, update = gates.unflatten(-1, (3, -1)).unbind(-2)
    factors = gates.new_empty(*update.shape[:-1], 3, update.shape[-1])
    to_reset, to_candidate, to_update = factors.unbind(-2)
    inner = torch.ops.aten.tanh_backward(update, candidates)
    torch.mul(inner, reset, out=to_candidate)
    torch.mul(inner.mul_(candidate), torch.addcmul(reset, reset, reset, value=-1), out=to_reset)
    torch.mul(candidates - old, torch.addcmul(update, update, update, value=-1), out=to_update)
    return factors, 1 - update


class _GRUUpdate(torch.autograd.Function):
    """One autograd node instead of a dozen."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, deter: Tensor) -> Tensor:
        applied, old = gates.to(torch.float32, copy=True), by_block(deter.float(), len(gates))
        update, new = gates_(applied, torch.empty_like(old))
        ctx.save_for_backward(deter, applied, new)
        ctx.dtype = gates.dtype
        return torch.lerp(old, new, update).transpose(0, 1).flatten(1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        deter, applied, new = ctx.saved_tensors
        grad = by_block(grad.contiguous(), len(applied))
        factors, carried = gate_factors(applied, new, by_block(deter.float(), len(applied)))
        grad_gates = factors.mul_(grad.unsqueeze(-2)).flatten(-2)
        return grad_gates.to(ctx.dtype), carried.mul_(grad).transpose(0, 1).flatten(1).to(deter.dtype)


def gru_update(gates: Float[Tensor, "G N Q"], deter: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """`h' = u tanh(r c) + (1 - u) h` with `r = sigmoid(reset)`, `u = sigmoid(update - 1)` (paper, Methods), in float32.

    Each block of `gates` holds reset, candidate and update.
    """
    return _GRUUpdate.apply(gates, deter)
