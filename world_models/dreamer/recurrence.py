"""The RSSM's recurrent steps without autograd: products go into buffers that are allocated once for a whole scan.

Legend: N rows, T steps, D deter, Z flattened latents, F = D + Z, H hidden, G blocks, P = D / G,
Q outputs of a block, O = G * Q.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from world_models.dreamer.gru import by_block, gates_
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
