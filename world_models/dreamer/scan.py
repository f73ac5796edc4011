"""Filtering of a sequence as one autograd node.

A scan of T steps of few rows through autograd is thousands of small operators. Here a step's backward is a few products
with factors that were computed for all steps at once, and the gradients of weights are one product over all T * N rows.

Legend: T time, N rows, D deter, S latents, C classes, Z = S * C, H hidden, G blocks, P = D / G, M = T * N,
O outputs of the first block layer.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from world_models.distributions import one_hot_, over_classes, pick_class, unimix_probs
from world_models.dreamer.recurrence import Kernels, Past, Steps, by_block, gate_factors
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
    walk: "Walk | None" = None,
) -> tuple[Float[Tensor, "N T D"], Float[Tensor, "N T S C"], Int[Tensor, "N T S"], Float[Tensor, "N T S C"]]:
    """Recurrent states, straight-through one-hot latents, their indices and the raw posterior logits of T steps.

    `deter` and `stoch` are the state before the first step, `keep` is 0 where a state is not to be carried over, `base`
    and `token` are the parts of two layers that do not depend on the state, `mix` is the weight of the uniform
    distribution and `draw` as in `pick_class`. `walk` takes the steps, if it takes such ones.
    """
    if walk is None or not walk.takes(kernels, len(deter)):
        walk = Plain()
    skeleton = map_state(lambda _: torch.empty(0), kernels)
    return _Scan.apply(skeleton, mix, walk, deter, stoch, keep, base, token, draw, *leaves(kernels))


class Walked(NamedTuple):
    """What the steps of a scan leave behind; states are `[N D+Z]`."""

    past: Past
    before: Float[Tensor, "T N F"]
    """States that the steps start from, zeros where one is not carried over."""
    after: Float[Tensor, "T N F"]
    logits: Float[Tensor, "T N S C"]
    indices: Int[Tensor, "N T S"]


@runtime_checkable
class Walk(Protocol):
    """How the steps are taken, one after the other; all that is not sequential is the scan's."""

    def takes(self, kernels: Kernels, rows: int) -> bool:
        """Whether it can."""

    def forward(
        self, kernels: Kernels, mix: float, state: Tensor, latents: tuple[int, int], keep: Tensor, base: Tensor,
        token: Tensor, draw: Tensor,
    ) -> Walked:  # fmt: skip
        """From the state `[N D+Z]` before the first step; the others as in `scan`."""

    def backward(self, reverse: "Reverse", keep: Tensor, incoming: Tensor, grad_logits: Tensor) -> Tensor:
        """The gradient of the state before the first step, from those `[T N D+Z]` that reach the states from outside,
        and those of the logits. Leaves in `reverse` what the gradients of weights need."""


class Plain:
    """Operator by operator."""

    def takes(self, kernels: Kernels, rows: int) -> bool:
        return True

    def forward(
        self, kernels: Kernels, mix: float, state: Tensor, latents: tuple[int, int], keep: Tensor, base: Tensor,
        token: Tensor, draw: Tensor,
    ) -> Walked:  # fmt: skip
        (time, rows, _), width = keep.shape, state.shape[-1] - latents[0] * latents[1]
        steps = Steps(kernels, rows, time)
        state = state.to(steps.wide)
        before, after = (state.new_empty(time, *state.shape) for _ in range(2))
        logits, indices = state.new_empty(time, rows, *latents), []
        for t in range(time):
            torch.mul(state, keep[t], out=before[t])
            state = after[t]
            steps.core(t, before[t], base[t], state[:, :width])
            logits[t] = steps.posterior(t, state[:, :width], token[t]).unflatten(-1, latents)
            index = pick_class(unimix_probs(logits[t], mix), draw[t])
            one_hot_(index, state[:, width:].unflatten(-1, latents))
            indices.append(index)
        return Walked(steps.past, before, after, logits, torch.stack(indices, 1))

    def backward(self, reverse: "Reverse", keep: Tensor, incoming: Tensor, grad_logits: Tensor) -> Tensor:
        grad = torch.zeros_like(incoming[0])
        for t in reversed(range(len(keep))):
            grad = reverse.step(t, incoming[t].add_(grad), grad_logits[t]).mul_(keep[t])
        return grad


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, skeleton: Kernels, mix: float, walk: Walk, deter: Tensor, stoch: Tensor, keep: Tensor, base: Tensor,
        token: Tensor, draw: Tensor, *weights: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        width, latents = deter.shape[-1], stoch.shape[1:]
        state = torch.cat([deter, stoch.flatten(1)], -1)
        with torch.autocast(deter.device.type, enabled=False):  # the kernels have the type to compute in
            past, before, after, logits, index = walk.forward(
                like(skeleton, weights), mix, state, (latents[0], latents[1]), keep, base, token, draw
            )
        ctx.save_for_backward(keep, before, after, logits, *leaves(past), *weights)
        ctx.skeletons = map_state(lambda _: torch.empty(0), past), skeleton
        ctx.mix, ctx.walk, ctx.dtypes = mix, walk, (base.dtype, token.dtype)
        deters, stochs = (x.transpose(0, 1).contiguous() for x in after.split([width, len(state[0]) - width], -1))
        ctx.mark_non_differentiable(index)
        return deters, stochs.unflatten(-1, latents), index, logits.transpose(0, 1).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        keep, before, after, logits, *saved = ctx.saved_tensors
        past, kernels = like(ctx.skeletons, saved)
        with torch.autocast(keep.device.type, enabled=False):
            reverse = Reverse(past, kernels, ctx.mix, before, after, logits)
            grad_deter, grad_stoch, _, grad_logits = (x.transpose(0, 1) for x in grads)
            incoming = torch.cat([grad_deter, grad_stoch.flatten(2)], -1)  # [T N D+Z]
            grad = ctx.walk.backward(reverse, keep, incoming, grad_logits)
            weights, base = reverse.weights(), reverse.base(slice(None))
        deter, stoch = grad.split([grad_deter.shape[-1], logits[0, 0].numel()], -1)
        token = reverse.posteriors[0].grad
        parts = (deter, stoch.unflatten(-1, logits.shape[2:]), None, base.to(ctx.dtypes[0]), token.to(ctx.dtypes[1]))
        return None, None, None, *parts, None, *leaves(weights)


class Reverse:
    """The backward of all steps: what each step's gradients leave behind, and from that the gradients of weights."""

    def __init__(self, past: Past, kernels: Kernels, mix: float, before: Tensor, after: Tensor, logits: Tensor):
        k, self.dtype = kernels, kernels.shared.dtype
        self.kernels, self.before, self.after = kernels, before.to(self.dtype), after.to(self.dtype)
        self.blocks = len(k.own[0])
        self.width = self.blocks * past.candidates.shape[-1]
        self.inputs = NormSiluGradients(past.inputs, k.input_gain)
        self.hidden = [NormSiluGradients(*layer) for layer in zip(past.hidden, k.gain, strict=True)]
        self.posteriors = [NormSiluGradients(*layer) for layer in zip(past.posteriors, k.posterior_gain, strict=True)]
        old = before[..., : self.width].unflatten(-1, (self.blocks, -1)).transpose(1, 2)  # [T G N P]
        self.gate_factors, self.carried = gate_factors(past.gates, past.candidates, old)
        self.probs = over_classes(torch.softmax, logits)  # [T N S C]
        self.slopes = (1 - mix) * self.probs
        self.grad_gates = torch.empty_like(past.gates, dtype=self.dtype)
        self.grad_logits = torch.empty_like(logits, dtype=self.dtype)
        self.transposed: Kernels = map_state(lambda x: x.mT if x.ndim > 1 else x, kernels)

    def step(self, t: int, grad: Tensor, grad_logits: Tensor) -> Tensor:
        """From the gradient of the state after step t `[N D+Z]`, changed in place, to that of the state before it."""
        k, blocks = self.transposed, self.blocks
        deter, stoch = grad[:, : self.width], grad[:, self.width :]
        # Straight through the sample to the unimixed softmax.
        weighted = stoch.view_as(grad_logits) * self.slopes[t]
        weighted.addcmul_(self.probs[t], weighted.sum(-1, keepdim=True), value=-1)
        x = torch.add(weighted, grad_logits, out=self.grad_logits[t]).flatten(1)
        for norm, weight in zip(reversed(self.posteriors), reversed(k.posterior), strict=False):
            torch.mm(x, weight, out=norm.grad_out[t])
            x = norm.step(t)
        _add_product(deter, x, k.posterior[0])

        out = torch.empty_like(grad)
        before, by = out[:, : self.width], by_block(deter, blocks)  # [N D], [G N P]
        torch.mul(by, self.carried[t], out=by_block(before, blocks))
        torch.mul(by.unsqueeze(2), self.gate_factors[t], out=self.grad_gates[t].unflatten(-1, (3, -1)))
        product = torch.bmm(self.grad_gates[t], k.own[-1])
        for norm, own in zip(reversed(self.hidden), reversed(k.own[:-1]), strict=True):
            by_block(norm.grad_out[t], blocks).copy_(product)
            product = torch.bmm(by_block(norm.step(t), blocks), own)
        by_block(before, blocks).add_(product)
        torch.mm(self.base(t), k.shared, out=self.inputs.grad_out[t].flatten(1))
        x, y = self.inputs.step(t).unbind(1)
        _add_product(before, x, k.inputs[0])
        out[:, self.width :] = torch.mm(y, k.inputs[1])
        return out

    def base(self, t: int | slice) -> Float[Tensor, "... N O"]:
        """The gradient of the action's part of the first block layer."""
        return self.hidden[0].grad[t] if self.hidden else self.grad_gates[t].transpose(-3, -2).flatten(-2)

    def weights(self) -> Kernels:
        """Gradients of the kernels."""
        before, after = self.before[..., : self.width], self.after[..., : self.width]
        inputs = self.inputs.grad.unbind(2)
        blocks_in = [before, *(norm.out for norm in self.hidden)]
        blocks_out = [
            *(self._by_block(norm.grad) for norm in self.hidden),
            self.grad_gates.transpose(0, 1).flatten(1, 2),
        ]
        posterior_in = [after, *(norm.out for norm in self.posteriors)]
        posterior_out = [*(norm.grad for norm in self.posteriors), self.grad_logits.flatten(2)]
        wide = self.carried.dtype
        return Kernels(
            inputs=(_product(before, inputs[0]), _product(self.before[..., self.width :], inputs[1])),
            input_bias=self.inputs.grad.sum((0, 1)),
            input_gain=self.inputs.gain(),
            shared=_product(self.inputs.out.flatten(2), self.base(slice(None))),
            own=tuple(torch.bmm(self._by_block(x).mT, g) for x, g in zip(blocks_in, blocks_out, strict=True)),
            bias=tuple(grad.sum(1, keepdim=True, dtype=wide) for grad in blocks_out[1:]),
            gain=tuple(norm.gain() for norm in self.hidden),
            posterior=tuple(map(_product, posterior_in, posterior_out)),
            posterior_bias=tuple(grad.sum((0, 1)) for grad in posterior_out[1:]),
            posterior_gain=tuple(norm.gain() for norm in self.posteriors),
        )

    def _by_block(self, x: Float[Tensor, "T N I"]) -> Float[Tensor, "G M P"]:
        return by_block(x.reshape(-1, x.shape[-1]), self.blocks)


def _add_product(out: Tensor, x: Tensor, weight: Tensor) -> None:
    """`out += x weight`, where `out` may be of a wider type."""
    if x.dtype == out.dtype:
        out.addmm_(x, weight)
    else:
        out.add_(torch.mm(x, weight))


def _product(x: Float[Tensor, "T N I"], grad: Float[Tensor, "T N O"]) -> Float[Tensor, "I O"]:
    """The gradient of a weight, over all rows of all steps."""
    return torch.mm(x.flatten(0, 1).t(), grad.flatten(0, 1))
