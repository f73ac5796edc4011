"""The gates of the block-GRU.

Legend: N rows, D deter, G blocks, Q = 3 * D / G gates of a block.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class _GRUUpdate(torch.autograd.Function):
    """One autograd node instead of a dozen, since every step of the recurrent scan passes through here."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, deter: Tensor) -> Tensor:
        reset, candidate, update = gates.float().unflatten(-1, (3, -1)).unbind(-2)  # [G N D/G] each
        reset = torch.sigmoid(reset)
        new = (reset * candidate).tanh_()
        update = (update - 1).sigmoid_()
        blocks = deter.float().unflatten(-1, (len(gates), -1))  # [N G D/G]
        ctx.save_for_backward(gates, deter, reset, new, update)
        return torch.lerp(blocks, new.transpose(0, 1), update.transpose(0, 1)).flatten(1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gates, deter, reset, new, update = ctx.saved_tensors
        old = deter.float().unflatten(-1, (len(gates), -1)).transpose(0, 1)
        grad = grad.unflatten(-1, (len(gates), -1)).transpose(0, 1)  # [G N D/G]
        candidate = gates.unflatten(-1, (3, -1)).select(-2, 1).float()
        out = torch.empty_like(gates, dtype=torch.float32, memory_format=torch.contiguous_format)
        grad_reset, grad_candidate, grad_update = out.unflatten(-1, (3, -1)).unbind(-2)
        to_new = grad * update
        torch.mul(torch.sub(new, old).mul_(grad), torch.addcmul(update, update, update, value=-1), out=grad_update)
        inner = torch.ops.aten.tanh_backward(to_new, new)
        torch.mul(inner, reset, out=grad_candidate)
        inner.mul_(candidate)
        torch.mul(inner, torch.addcmul(reset, reset, reset, value=-1), out=grad_reset)
        return out.to(gates.dtype), torch.sub(grad, to_new).transpose(0, 1).flatten(1).to(deter.dtype)


def gru_update(gates: Float[Tensor, "G N Q"], deter: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """`h' = u tanh(r c) + (1 - u) h` with `r = sigmoid(reset)`, `u = sigmoid(update - 1)` (paper, Methods), in float32.

    Each block of `gates` holds reset, candidate and update.
    """
    return _GRUUpdate.apply(gates, deter)
