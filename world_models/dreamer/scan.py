"""Filtering of a sequence as one autograd node.

A scan of T steps of few rows through autograd is thousands of small operators. Here a step's backward is a few products
with factors that were computed for all steps at once, and the gradients of weights are one product over all T * N rows.

Legend: T time, N rows, D deter, S latents, C classes, Z = S * C, H hidden, G blocks, O outputs of the first block layer.
"""

from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from world_models.distributions import one_hot_, over_classes, pick_class, unimix_probs
from world_models.dreamer.gru import by_block, gate_factors
from world_models.dreamer.recurrence import Kernels, Past, Steps
from world_models.layers import NormSiluGradients
from world_models.protocol import leaves, like, map_state


def scan(
    kernels: Kernels,
    mix: float,
    deter: Float[Tensor, "N D"],
    stoch: Float[Tensor, "N S C"],
    keep: Float[Tensor, "T N 1"],
    base: Float[Tensor, "T N O"],
    token: Float[Tensor, "T N H"],
    draw: Shaped[Tensor, "T N S"],
) -> tuple[Float[Tensor, "N T D"], Float[Tensor, "N T S C"], Int[Tensor, "N T S"], Float[Tensor, "N T S C"]]:
    """Recurrent states, straight-through one-hot latents, their indices and the raw posterior logits of T past.

    `deter` and `stoch` are the state before the first step, `keep` is 0 where a state is not to be carried over, `base`
    and `token` are the parts of two layers that do not depend on the state, `mix` is the weight of the uniform
    distribution and `draw` as in `pick_class`.
    """
    skeleton = map_state(lambda _: torch.empty(0), kernels)
    return _Scan.apply(skeleton, mix, deter, stoch, keep, base, token, draw, *leaves(kernels))


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, skeleton: Kernels, mix: float, deter: Tensor, stoch: Tensor, keep: Tensor, base: Tensor, token: Tensor,
        draw: Tensor, *weights: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        (time, rows, _), width, latents = keep.shape, deter.shape[-1], stoch.shape[1:]
        steps = Steps(like(skeleton, weights), rows, time)
        state = torch.cat([deter, stoch.flatten(1)], -1).to(steps.wide)
        before, after = (state.new_empty(time, *state.shape) for _ in range(2))
        logits, indices = state.new_empty(time, rows, *latents), []
        with torch.autocast(deter.device.type, enabled=False):  # the kernels have the type to compute in
            for t in range(time):
                torch.mul(state, keep[t], out=before[t])
                state = after[t]
                steps.core(t, before[t], base[t], state[:, :width])
                logits[t] = steps.posterior(t, state[:, :width], token[t]).unflatten(-1, latents)
                index = pick_class(unimix_probs(logits[t], mix), draw[t])
                one_hot_(index, state[:, width:].unflatten(-1, latents))
                indices.append(index)
        ctx.save_for_backward(keep, before, after, logits, *leaves(steps.past), *weights)
        ctx.skeletons = map_state(lambda _: torch.empty(0), steps.past), skeleton
        ctx.mix, ctx.dtypes = mix, (base.dtype, token.dtype)
        deters, stochs = (x.transpose(0, 1).contiguous() for x in after.split([width, len(state[0]) - width], -1))
        index = torch.stack(indices, 1)
        ctx.mark_non_differentiable(index)
        return deters, stochs.unflatten(-1, latents), index, logits.transpose(0, 1).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        keep, before, after, logits, *saved = ctx.saved_tensors
        past, kernels = like(ctx.skeletons, saved)
        with torch.autocast(keep.device.type, enabled=False):
            reverse = _Reverse(past, kernels, ctx.mix, before, after, logits)
            grad_deter, grad_stoch, _, grad_logits = (x.transpose(0, 1) for x in grads)
            incoming = torch.cat([grad_deter, grad_stoch.flatten(2)], -1)  # [T N D+Z]
            grad = torch.zeros_like(incoming[0])
            for t in reversed(range(len(keep))):
                grad = reverse.step(t, incoming[t].add_(grad), grad_logits[t]).mul_(keep[t])
            weights, base = reverse.weights(), reverse.base()
        deter, stoch = grad.split([grad_deter.shape[-1], logits[0, 0].numel()], -1)
        token = reverse.posteriors[0]
        parts = (deter, stoch.unflatten(-1, logits.shape[2:]), None, base.to(ctx.dtypes[0]), token.to(ctx.dtypes[1]))
        return None, None, *parts, None, *leaves(weights)


class _Reverse:
    """The backward of all steps: what each step's gradients leave behind, and from that the gradients of weights."""

    def __init__(self, past: Past, kernels: Kernels, mix: float, before: Tensor, after: Tensor, logits: Tensor):
        k, self.dtype = kernels, kernels.shared.dtype
        self.kernels, self.before, self.after = kernels, before, after
        self.blocks, width, _ = k.own[-1].shape
        self.width = self.blocks * width
        self.input_norm = NormSiluGradients(past.inputs, k.input_gain)
        self.norms = [NormSiluGradients(x, gain) for x, gain in zip(past.hidden, k.gain, strict=True)]
        self.posterior_norms = [
            NormSiluGradients(x, gain) for x, gain in zip(past.posteriors, k.posterior_gain, strict=True)
        ]
        old = before[..., : self.width].unflatten(-1, (self.blocks, -1)).transpose(1, 2)  # [T G N P]
        self.gate_factors, self.carried = gate_factors(past.gates, past.candidates, old)
        self.probs = over_classes(torch.softmax, logits)  # [T N S C]
        self.mix = mix
        # Gradients of pre-activations.
        self.inputs, self.hidden = torch.empty_like(past.inputs), [torch.empty_like(x) for x in past.hidden]
        self.gates = torch.empty_like(past.gates, dtype=self.dtype)
        self.posteriors = [torch.empty_like(x) for x in past.posteriors]
        self.logits = torch.empty_like(logits, dtype=self.dtype)

    def step(self, t: int, grad: Tensor, grad_logits: Tensor) -> Tensor:
        """From the gradient of the state after step t `[N D+Z]`, changed in place, to that of the state before it."""
        k, rows = self.kernels, len(grad)
        deter, stoch = grad[:, : self.width], grad[:, self.width :]
        # Straight through the sample to the unimixed softmax.
        weighted = (stoch.view_as(grad_logits) * self.probs[t]).mul_(1 - self.mix)
        total = weighted.sum(-1, keepdim=True)
        torch.add(weighted.addcmul_(self.probs[t], total, value=-1), grad_logits, out=self.logits[t])
        x = self.logits[t].flatten(1)
        for i, norm in reversed(list(enumerate(self.posterior_norms))):
            norm.step(t, torch.mm(x, k.posterior[i + 1].t()), self.posteriors[i][t])
            x = self.posteriors[i][t]
        deter.add_(torch.mm(x, k.posterior[0].t()))

        by_block = deter.unflatten(-1, (self.blocks, -1)).transpose(0, 1)  # [G N P]
        out = torch.empty_like(grad)
        out_by_block = out[:, : self.width].unflatten(-1, (self.blocks, -1)).transpose(0, 1)
        torch.mul(by_block, self.carried[t], out=out_by_block)
        gates = self.gates[t].unflatten(-1, (3, -1))
        torch.mul(by_block.unsqueeze(2), self.gate_factors[t], out=gates)
        x = self.gates[t]  # [G N Q]
        for i, own in reversed(list(enumerate(k.own))):
            product = torch.bmm(x, own.mT)
            if i:
                self.norms[i - 1].step(t, product.transpose(0, 1).reshape(rows, -1), self.hidden[i - 1][t])
                x = self.hidden[i - 1][t].unflatten(-1, (self.blocks, -1)).transpose(0, 1)
        out_by_block.add_(product)
        shared = torch.mm(x.transpose(0, 1).reshape(rows, -1), k.shared.t()).view_as(self.inputs[t])
        self.input_norm.step(t, shared, self.inputs[t])
        out[:, : self.width].add_(torch.mm(self.inputs[t, :, 0], k.inputs[0].t()))
        out[:, self.width :] = torch.mm(self.inputs[t, :, 1], k.inputs[1].t())
        return out

    def base(self) -> Float[Tensor, "T N O"]:
        """The gradient of the action's part of the first block layer."""
        return self.hidden[0] if self.hidden else self.gates.transpose(1, 2).flatten(2)

    def weights(self) -> Kernels:
        """Gradients of the kernels."""
        k, before, after = self.kernels, self.before.to(self.dtype), self.after.to(self.dtype)
        deter, stoch = before[..., : self.width], before[..., self.width :]
        inputs = tuple(_product(x, self.inputs[:, :, i]) for i, x in enumerate((deter, stoch)))
        grads = [*self.hidden, self.gates]
        xs = [deter, *(norm.out for norm in self.norms)]
        own = tuple(
            torch.bmm(self._by_block(x).mT, self._by_block(grad)) for x, grad in zip(xs, grads, strict=True)
        )
        bias = tuple(self._by_block(grad).sum(1, keepdim=True, dtype=k.bias[0].dtype) for grad in grads[1:])
        posterior_in = [after[..., : self.width], *(norm.out for norm in self.posterior_norms)]
        posterior_grads = [*self.posteriors, self.logits.flatten(2)]
        posterior = tuple(_product(x, grad) for x, grad in zip(posterior_in, posterior_grads, strict=True))
        return Kernels(
            inputs=(inputs[0], inputs[1]),
            input_bias=self.inputs.sum((0, 1)),
            input_gain=self.input_norm.gain(),
            shared=_product(self.input_norm.out.flatten(2), self.base()),
            own=own,
            bias=bias,
            gain=tuple(norm.gain() for norm in self.norms),
            posterior=posterior,
            posterior_bias=tuple(grad.flatten(0, 1).sum(0) for grad in posterior_grads[1:]),
            posterior_gain=tuple(norm.gain() for norm in self.posterior_norms),
        )

    def _by_block(self, x: Tensor) -> Float[Tensor, "G T*N Q"]:
        if x.ndim == 4:  # gates [T G N Q]
            return x.transpose(0, 1).flatten(1, 2)
        return x.flatten(0, 1).unflatten(-1, (self.blocks, -1)).transpose(0, 1)


def _product(x: Float[Tensor, "T N I"], grad: Float[Tensor, "T N O"]) -> Float[Tensor, "I O"]:
    """The gradient of a weight, over all rows of all past."""
    return torch.mm(x.flatten(0, 1).t(), grad.flatten(0, 1))
