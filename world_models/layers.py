"""Layers of DreamerV3: linear, block-linear and convolution with the official initialisation, and RMSNorm + SiLU.

Legend: N rows, I inputs, O outputs, G blocks, C channels. Parameters are float32; under autocast products run in
bfloat16 and normalisation in float32.
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from world_models.distributions import one_hot, symlog
from world_models.products import linear
from world_models.space import Spaces

NORM_EPS = 1e-4


def init_weight(weight: Tensor, fan_in: int, scale: float) -> None:
    """Truncated normal at two sigma with std `scale / sqrt(fan_in)` after truncation (1.1368 corrects for it)."""
    with torch.no_grad():
        nn.init.trunc_normal_(weight, std=1.0, a=-2.0, b=2.0).mul_(scale * 1.1368 / math.sqrt(fan_in))


class Linear(nn.Module):
    """`y = x W^T + b`, `[... I] -> [... O]`."""

    def __init__(self, inputs: int, outputs: int, scale: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        init_weight(self.weight, inputs, scale)

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... O"]:
        return linear(x, self.weight, self.bias)


class BlockLinear(nn.Module):
    """Block-diagonal linear layer: `blocks` contiguous slices of the input, each with its own kernel `[G I/G O/G]`.

    Every block also sees the `shared` extra inputs, after its own slice. The initial scale is computed from the input
    width of all blocks together, not of one.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int, shared: int = 0, scale: float = 1.0):
        super().__init__()
        for name, width in (("inputs", inputs), ("outputs", outputs)):
            if width % blocks:
                raise ValueError(f"BlockLinear {name}={width} is not divisible by {blocks} blocks; choose a multiple.")
        self.blocks, self.own, self.outputs = blocks, inputs // blocks, outputs
        self.weight = nn.Parameter(torch.empty(blocks, self.own + shared, outputs // blocks))
        self.bias = nn.Parameter(torch.zeros(outputs))
        init_weight(self.weight, inputs + blocks * shared, scale)

    def split(self) -> tuple[Tensor, Tensor]:
        """Kernels of the blocks' own slices `[G I/G O/G]` and of the shared inputs `[shared O]`, for use in a scan."""
        own, shared = self.weight.split([self.own, self.weight.shape[1] - self.own], 1)
        return own, shared.transpose(0, 1).reshape(-1, self.outputs)

    def by_block(
        self, x: Float[Tensor, "N I"], shared: Tensor | None = None, kernels: tuple[Tensor, Tensor] | None = None
    ) -> Float[Tensor, "G N P"]:
        """The output with the block axis first, as the batched product returns it; P = O / G."""
        own, common = kernels or self.split()
        x = x.unflatten(-1, (self.blocks, -1)).transpose(0, 1)  # [G N I/G]
        if shared is None:
            return torch.baddbmm(self.bias.view(self.blocks, 1, -1), x, own)
        # All blocks see the same shared inputs, so one dense product replaces G copies of them.
        dense = torch.addmm(self.bias, shared, common).unflatten(-1, (self.blocks, -1))  # [N G O/G]
        return (dense + torch.bmm(x, own).transpose(0, 1)).transpose(0, 1)

    def forward(
        self, x: Float[Tensor, "N I"], shared: Tensor | None = None, kernels: tuple[Tensor, Tensor] | None = None
    ) -> Float[Tensor, "N O"]:
        return self.by_block(x, shared, kernels).transpose(0, 1).flatten(1)


class Conv2d(nn.Module):
    """Stride-1 "same" convolution over `[N C H W]`, stored channels-last."""

    def __init__(self, inputs: int, outputs: int, kernel: int, scale: float = 1.0):
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} is even; 'same' padding needs an odd kernel such as {kernel + 1}.")
        weight = torch.empty(outputs, inputs, kernel, kernel)
        init_weight(weight, inputs * kernel * kernel, scale)
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Float[Tensor, "N I H W"]) -> Float[Tensor, "N O H W"]:
        return F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)


class UpsampleConv2d(Conv2d):
    """Nearest-neighbour upsampling by 2 followed by `Conv2d`, computed at the low resolution.

    Neighbouring taps that read the same low-resolution pixel are summed first, so each of the four output phases is a
    smaller convolution: 9 products per pixel instead of 25 for a 5x5 kernel. The result differs only by rounding.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, scale: float = 1.0):
        super().__init__(inputs, outputs, kernel, scale)
        pad = kernel // 2
        self.reach = (pad + 1) // 2  # low-resolution pixels to either side
        fold = torch.zeros(2, 2 * self.reach + 1, kernel)
        for phase in range(2):
            for tap in range(kernel):
                fold[phase, (phase + tap - pad) // 2 + self.reach, tap] = 1
        self.register_buffer("fold", fold, persistent=False)

    def forward(self, x: Float[Tensor, "N I H W"]) -> Float[Tensor, "N O H*2 W*2"]:
        folded = torch.einsum("pyk,qxl,oikl->opqiyx", self.fold, self.fold, self.weight).flatten(0, 2)
        folded = folded.contiguous(memory_format=torch.channels_last)
        bias = self.bias.repeat_interleave(4)
        return F.pixel_shuffle(F.conv2d(x, folded, bias, padding=self.reach), 2)


def _inverse_rms(x: Float[Tensor, "... C"]) -> Float[Tensor, "... 1"]:
    wide = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    return torch.addcmul(norm.new_full((), NORM_EPS), norm, norm, value=1 / x.shape[-1]).rsqrt_()


def norm_silu(x: Float[Tensor, "... C"], gain: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
    """`NormSilu` without autograd; the gain may differ along further axes."""
    return F.silu((x * _inverse_rms(x)).mul_(gain), inplace=True).to(x.dtype)


class _NormSilu(torch.autograd.Function):
    """RMSNorm and SiLU as one autograd node: it saves only the input, where a chain of operators keeps five tensors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        inverse = _inverse_rms(x)
        ctx.save_for_backward(x, gain, inverse)
        return F.silu((x * inverse).mul_(gain), inplace=True).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, gain, inverse = ctx.saved_tensors
        unit = x.to(inverse.dtype) * inverse
        scaled = unit * gain
        grad = torch.ops.aten.silu_backward(grad.to(inverse.dtype), scaled)
        grad_unit = torch.mul(grad, gain, out=scaled)
        grad_gain = grad.mul_(unit).flatten(0, -2).sum(0)
        dot = torch.mul(grad_unit, unit, out=grad).mean(-1, keepdim=True)
        grad_x = grad_unit.addcmul_(unit, dot, value=-1).mul_(inverse)
        return grad_x.to(x.dtype), grad_gain


class NormSiluGradients:
    """Gradients of `norm_silu` over a scan of T steps, `x` `[T N ... C]`: all that does not depend on the gradients to
    come is computed for all steps at once."""

    def __init__(self, x: Float[Tensor, "T N ... C"], gain: Float[Tensor, "... C"]):
        inverse = _inverse_rms(x)
        self.unit = x * inverse
        self.scaled = self.unit * gain
        self.out = F.silu(self.scaled).to(x.dtype)
        self.slope = torch.ops.aten.silu_backward(inverse * gain, self.scaled)
        # Gradients of the outputs, to be written before `step`, and of `x`, written by it.
        self.grad_out, self.grad = torch.empty_like(x), torch.empty_like(x)
        self.slots = list(
            zip(self.grad_out.unbind(), self.grad.unbind(), self.slope.unbind(), self.unit.unbind(), strict=True)
        )

    def step(self, t: int) -> Float[Tensor, "N ... C"]:
        """The gradient of `x[t]` from that of the output."""
        incoming, out, slope, unit = self.slots[t]
        weighted = incoming * slope
        return torch.addcmul(weighted, unit, (weighted * unit).mean(-1, keepdim=True), value=-1, out=out)

    def gain(self) -> Float[Tensor, "... C"]:
        """The gradient of the gain, after the last step."""
        grads = torch.ops.aten.silu_backward(self.grad_out.to(self.scaled.dtype), self.scaled)
        return grads.mul_(self.unit).sum((0, 1))


class NormSilu(nn.Module):
    """`silu(x / sqrt(mean(x^2) + 1e-4) * gain)` over the last axis; the gain is the only parameter (paper, Methods)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
        return _NormSilu.apply(x, self.weight) if torch.is_grad_enabled() else norm_silu(x, self.weight)


def rms_norm(x: Float[Tensor, "... C"], gain: Float[Tensor, " C"]) -> Float[Tensor, "... C"]:
    """RMSNorm alone (no mean subtraction, no shift), in float32."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + NORM_EPS) * gain).to(x.dtype)


class Dense(nn.Module):
    """Linear, RMSNorm, SiLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.linear = Linear(inputs, outputs)
        self.norm = NormSilu(outputs)

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... O"]:
        return self.norm(self.linear(x))


class MLP(nn.Sequential):
    """`layers` dense layers of `units`."""

    def __init__(self, inputs: int, units: int, layers: int):
        super().__init__(*(Dense(inputs if i == 0 else units, units) for i in range(layers)))

    def layers(self) -> list[Dense]:
        """The dense layers, for callers that split up the first one."""
        return [cast(Dense, layer) for layer in self]


def concat_dict(spaces: Spaces, values: dict[str, Tensor], squash: bool = False) -> Float[Tensor, "... width"]:
    """Flatten the keys of a dict observation or action, alphabetically, into one float vector.

    Integers become one-hot, floats are passed through (symlog if `squash`). A key whose row holds `-inf` or `-1` is
    "not available" and becomes zeros, as in the official program.
    """
    parts = []
    for key in sorted(spaces):
        space, value = spaces[key], values[key]
        lead = value.shape[: value.ndim - len(space.shape)]
        flat = value.reshape(*lead, -1)
        if space.discrete:
            present = (flat.long() >= 0).all(-1, keepdim=True)
            part = one_hot(flat.long().clamp_min(0), space.classes).flatten(-2)
        else:
            flat = flat.float()
            present = (flat != -torch.inf).all(-1, keepdim=True)
            flat = torch.where(present, flat, 0.0)
            part = symlog(flat) if squash else flat
        parts.append(part * present)
    return torch.cat(parts, -1)


def total_width(spaces: Spaces) -> int:
    """Width of `concat_dict`."""
    return sum(space.width for space in spaces.values())


def module_key(key: str) -> str:
    """Name of the module for an observation or action key; the prefix avoids clashes with attribute names."""
    return "key_" + key.replace(".", "/")
