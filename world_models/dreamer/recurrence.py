"""The gates of the block-GRU, and the RSSM's recurrent steps without autograd: products go into buffers that are
allocated once for a whole scan.

Legend: N rows, T steps, D deter, Z flattened latents, F = D + Z, H hidden, G blocks, P = D / G,
Q outputs of a block (gates: Q = 3 * P), O = G * Q.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from world_models.layers import norm_silu
from world_models.protocol import leaves, like


class Kernels(NamedTuple):
    """What a scan multiplies with, laid out once for all its steps.

    Dense weights are `[I O]`: with few rows, some processors multiply with a layer's own `[O I]` five times slower. Two
    first layers have no bias here, since it is part of what is computed for all steps at once: that of the blocks,
    with the action, and that of the posterior, with the tokens.
    """

    inputs: tuple[Tensor, ...]
    """From deter `[D H]` and stoch `[Z H]`."""
    input_bias: Float[Tensor, "2 H"]
    input_gain: Float[Tensor, "2 H"]
    shared: Float[Tensor, "J O"]
    """From both, J = 2 * H, to all blocks of the first block layer."""
    own: tuple[Float[Tensor, "G I Q"], ...]
    """The blocks' own slices, layer by layer; the last makes the gates."""
    bias: tuple[Float[Tensor, "G 1 Q"], ...]
    """Of all block layers but the first."""
    gain: tuple[Float[Tensor, " O"], ...]
    """Of all block layers but the last."""
    posterior: tuple[Tensor, ...]
    """From deter `[D H]`, between further layers `[H H]`, to the logits `[H Z]`."""
    posterior_bias: tuple[Tensor, ...]
    posterior_gain: tuple[Tensor, ...]


MANY_ROWS = 256
"""From here on, gates that need not be kept are computed block by block: those of one block fit into a cache."""


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


class Past(NamedTuple):
    """What steps leave behind for their gradients; the first three and the last are pre-activations."""

    inputs: Float[Tensor, "T N 2 H"]
    hidden: tuple[Float[Tensor, "T N O"], ...]
    gates: Float[Tensor, "T G N Q"]
    """Reset, candidate before its gate, and update."""
    candidates: Float[Tensor, "T G N P"]
    posteriors: tuple[Float[Tensor, "T N H"], ...]


class Steps:
    """Recurrent steps of N rows, and buffers for T of them.

    Products are in the kernels' type; norms, gates and recurrent states in float32 at least. A caller that does not
    need the past gives no number of steps, and takes `t = 0` at each.
    """

    def __init__(self, kernels: Kernels, rows: int, steps: int | None = None):
        self.kernels = kernels
        (blocks, _, gates), new = kernels.own[-1].shape, kernels.shared.new_empty
        dtype = kernels.shared.dtype
        self.wide = torch.promote_types(dtype, torch.float32)
        self.one_by_one = steps is None and rows >= MANY_ROWS and dtype == self.wide
        steps, kept = steps or 1, 1 if self.one_by_one else blocks
        self.past = Past(
            inputs=new(steps, rows, *kernels.input_bias.shape),
            hidden=tuple(new(steps, rows, len(gain)) for gain in kernels.gain),
            gates=new(steps, kept, rows, gates, dtype=self.wide),
            candidates=new(steps, kept, rows, gates // 3, dtype=self.wide),
            posteriors=tuple(new(steps, rows, len(gain)) for gain in kernels.posterior_gain),
        )
        by_step = zip(*(buffer.unbind() for buffer in leaves(self.past)), strict=True)
        self.slots: list[Past] = [like(self.past, buffers) for buffers in by_step]
        # Memory for what only one step needs: large tensors that come and go cost page faults.
        self.products = [new(blocks, rows, own.shape[2]) for own in kernels.own[:-1]]
        self.narrow_gates = None if dtype == self.wide else new(blocks, rows, gates)

    def core(self, t: int, state: Float[Tensor, "N F"], base: Float[Tensor, "N O"], out: Float[Tensor, "N D"]) -> None:
        """Write the next recurrent state to `out`; `base` is the action's part of the first block layer."""
        k, past, width = self.kernels, self.slots[t], out.shape[1]
        blocks = len(k.own[0])
        narrow = state.to(base.dtype)
        x, stoch = narrow[:, :width], narrow[:, width:]
        torch.addmm(k.input_bias[0], x, k.inputs[0], out=past.inputs[:, 0])
        torch.addmm(k.input_bias[1], stoch, k.inputs[1], out=past.inputs[:, 1])
        shared = norm_silu(past.inputs, k.input_gain).flatten(1)
        bias = by_block(torch.addmm(base, shared, k.shared, out=past.hidden[0] if past.hidden else None), blocks)
        for i, hidden in enumerate(past.hidden):
            product = torch.bmm(by_block(x, blocks), k.own[i], out=self.products[i])
            torch.add(product, bias, out=by_block(hidden, blocks))
            x, bias = norm_silu(hidden, k.gain[i]), k.bias[i]
        old, x, out = (by_block(part, blocks) for part in (state[:, :width], x, out))
        if self.one_by_one:
            for part in zip(old, x, bias, k.own[-1], out, strict=True):
                _block(*part, past.gates[0], past.candidates[0])
            return
        product = torch.bmm(x, k.own[-1], out=past.gates if self.narrow_gates is None else self.narrow_gates)
        torch.add(product, bias, out=past.gates)
        update, new = gates_(past.gates, past.candidates)
        torch.lerp(old, new, update, out=out)

    def posterior(self, t: int, deter: Float[Tensor, "N D"], token: Float[Tensor, "N H"]) -> Float[Tensor, "N Z"]:
        """Raw logits; `token` is the tokens' part of the first layer."""
        k, bias, x = self.kernels, token, deter.to(token.dtype)
        layers = zip(self.slots[t].posteriors, k.posterior_gain, k.posterior, k.posterior_bias, strict=False)
        for out, gain, weight, following in layers:
            torch.addmm(bias, x, weight, out=out)
            x, bias = norm_silu(out, gain), following
        return torch.addmm(bias, x, k.posterior[-1])


def _block(old: Tensor, x: Tensor, bias: Tensor, own: Tensor, out: Tensor, gates: Tensor, candidates: Tensor) -> None:
    """The end of `Steps.core` for one block `[N P]`."""
    torch.addmm(bias, x, own, out=gates)
    update, new = gates_(gates, candidates)
    torch.lerp(old, new, update, out=out)
