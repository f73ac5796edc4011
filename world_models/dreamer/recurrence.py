"""The RSSM's recurrent steps without autograd: products go into buffers that are allocated once for a whole scan.

Legend: N rows, T steps, D deter, Z flattened latents, H hidden, G blocks, P = D / G, Q outputs of a block, O = G * Q.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from world_models.dreamer.gru import by_block, gates_
from world_models.layers import norm_silu


class Kernels(NamedTuple):
    """What a scan multiplies with, laid out once for all its steps.

    Dense weights are `[I O]`: with few rows, some processors multiply with a layer's own `[O I]` five times slower. Two
    first layers have no bias here, since it is part of what is computed for all steps at once: that of the blocks,
    with the action, and that of the posterior, with the tokens.
    """

    inputs: tuple[Tensor, Tensor]
    """From deter `[D H]` and stoch `[Z H]`."""
    input_bias: Float[Tensor, "2 H"]
    input_gain: Float[Tensor, "2 H"]
    shared: Float[Tensor, "2*H O"]
    """From both to all blocks of the first block layer."""
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

    Products are in the kernels' type; norms, gates and recurrent states in float32 at least. A caller without need for
    the past takes `t = 0` at every step.
    """

    def __init__(self, kernels: Kernels, rows: int, steps: int = 1):
        self.kernels = kernels
        (blocks, _, gates), new = kernels.own[-1].shape, kernels.shared.new_empty
        self.dtype = kernels.shared.dtype
        self.wide = torch.promote_types(self.dtype, torch.float32)
        self.past = Past(
            inputs=new(steps, rows, *kernels.input_bias.shape),
            hidden=tuple(new(steps, rows, len(gain)) for gain in kernels.gain),
            gates=new(steps, blocks, rows, gates, dtype=self.wide),
            candidates=new(steps, blocks, rows, gates // 3, dtype=self.wide),
            posteriors=tuple(new(steps, rows, len(gain)) for gain in kernels.posterior_gain),
        )

    def core(
        self, t: int, state: Float[Tensor, "N D+Z"], base: Float[Tensor, "N O"], out: Float[Tensor, "N D"]
    ) -> None:
        """Write the next recurrent state to `out`; `base` is the action's part of the first block layer."""
        k, past, width = self.kernels, self.past, out.shape[1]
        blocks = len(k.own[0])
        narrow = state.to(self.dtype)
        x, stoch = narrow[:, :width], narrow[:, width:]
        for i, part in enumerate((x, stoch)):
            torch.addmm(k.input_bias[i], part, k.inputs[i], out=past.inputs[t, :, i])
        shared = norm_silu(past.inputs[t], k.input_gain).flatten(1)
        bias = by_block(torch.addmm(base, shared, k.shared), blocks)
        for i, own in enumerate(k.own):
            product, last = torch.bmm(by_block(x, blocks), own), i == len(past.hidden)
            torch.add(product, bias, out=past.gates[t] if last else by_block(past.hidden[i][t], blocks))
            if not last:
                x, bias = norm_silu(past.hidden[i][t], k.gain[i]), k.bias[i]
        update, new = gates_(past.gates[t], past.candidates[t])
        torch.lerp(by_block(state[:, :width], blocks), new, update, out=by_block(out, blocks))

    def posterior(self, t: int, deter: Float[Tensor, "N D"], token: Float[Tensor, "N H"]) -> Float[Tensor, "N Z"]:
        """Raw logits; `token` is the tokens' part of the first layer."""
        k, bias, x = self.kernels, token, deter.to(self.dtype)
        for i, gain in enumerate(k.posterior_gain):
            torch.addmm(bias, x, k.posterior[i], out=self.past.posteriors[i][t])
            x, bias = norm_silu(self.past.posteriors[i][t], gain), k.posterior_bias[i]
        return torch.addmm(bias, x, k.posterior[-1])
