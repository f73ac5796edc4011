"""An imagined step as one function without gradients, which torch.compile turns into C++ on a CPU.

A compiler joins the norms, gates and samples of a step, each a dozen operators otherwise, into few passes over memory.
Products are torch's own; those of one input are one product.

Legend: N rows, A action width, D deter, S latents, C classes, Z = S * C, F = D + Z, H hidden, O outputs of the first
block layer.
"""

import os
import time
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from world_models.distributions import pick_class, unimix_probs
from world_models.dreamer.recurrence import Kernels, by_block
from world_models.dreamer.rssm import RSSM
from world_models.layers import NORM_EPS, Dense

CACHE = "TORCHINDUCTOR_CACHE_DIR"


class Layer(NamedTuple):
    """Of a dense layer or, without a gain, a linear one."""

    weight: Float[Tensor, "O I"]
    bias: Float[Tensor, " O"]
    gain: Float[Tensor, " O"] | None = None


class Weights(NamedTuple):
    """What the steps of one update are computed with."""

    kernels: Kernels
    action: Layer
    shared: Float[Tensor, "J O"]
    """From the three embedded inputs, J = 3 * H, to all blocks of the first block layer."""
    shared_bias: Float[Tensor, " O"]
    of_deter: Layer
    """First layer of the prior and, below it, that of the next step."""
    prior: tuple[Layer, ...]
    """The layers after the first; the last one makes the logits."""
    prior_gain: Float[Tensor, " H"]

    @classmethod
    def of(cls, rssm: RSSM) -> "Weights":
        first, *rest = rssm.prior_mlp.layers()
        linear = rssm.dynamics_layers()[0].linear if rssm.dynamics else rssm.gru
        joined = (first.linear, rssm.deter_in.linear)
        return cls(
            kernels=rssm.scan_kernels(),
            action=_layer(rssm.action_in),
            shared=linear.split()[1].contiguous(),
            shared_bias=linear.bias,
            of_deter=Layer(torch.cat([x.weight for x in joined]), torch.cat([x.bias for x in joined])),
            prior=(*map(_layer, rest), Layer(rssm.prior_out.weight, rssm.prior_out.bias)),
            prior_gain=first.norm.weight,
        )


def _layer(dense: Dense) -> Layer:
    return Layer(dense.linear.weight, dense.linear.bias, dense.norm.weight)


class Ahead(NamedTuple):
    """A state, and the first layer of the step from it."""

    deter: Float[Tensor, "N D"]
    stoch: Float[Tensor, "N Z"]
    embedded: Float[Tensor, "N H"]


def imagined_step(
    weights: Weights, mix: float, state: Ahead, action: Float[Tensor, "N A"], draw: Shaped[Tensor, "N S"]
) -> tuple[Ahead, Float[Tensor, "N S C"]]:
    """The next state and its raw prior logits; `draw` as in `pick_class`. The numbers of `RSSM.core` and `RSSM.prior`,
    but for rounding."""
    k, deter = weights.kernels, state.deter
    blocks = len(k.own[0])
    inputs = [
        _normed(state.embedded, k.input_gain[0]),
        _normed(torch.addmm(k.input_bias[1], state.stoch, k.inputs[1]), k.input_gain[1]),
        _dense(action / action.abs().clamp_min(1), weights.action),
    ]
    x, bias = deter, by_block(torch.addmm(weights.shared_bias, torch.cat(inputs, -1), weights.shared), blocks)
    for own, gain, following in zip(k.own[:-1], k.gain, k.bias, strict=True):
        hidden = (torch.bmm(by_block(x, blocks), own) + bias).transpose(0, 1).flatten(1)
        x, bias = _normed(hidden, gain), following
    parts = []
    for old, hidden, own, add in zip(by_block(deter, blocks), by_block(x, blocks), k.own[-1], bias, strict=True):
        # The gates of one block fit into a cache.
        reset, candidate, update = torch.addmm(add, hidden, own).unflatten(-1, (3, -1)).unbind(-2)
        new = 2 * torch.sigmoid(2 * torch.sigmoid(reset) * candidate) - 1  # tanh
        parts.append(old + torch.sigmoid(update - 1) * (new - old))
    after = torch.cat(parts, -1)
    x, embedded = F.linear(after, weights.of_deter.weight, weights.of_deter.bias).chunk(2, -1)
    x = _normed(x, weights.prior_gain)
    for layer in weights.prior:
        x = _dense(x, layer)
    logits = x.unflatten(-1, (draw.shape[-1], -1))
    index = pick_class(unimix_probs(logits, mix), draw)
    one_hot = (index[..., None] == torch.arange(logits.shape[-1])).to(after.dtype)
    return Ahead(after, one_hot.flatten(1), embedded), logits


def _dense(x: Tensor, layer: Layer) -> Tensor:
    x = F.linear(x, layer.weight, layer.bias)
    return x if layer.gain is None else _normed(x, layer.gain)


def _normed(x: Tensor, gain: Tensor) -> Tensor:
    """`norm_silu` in the form that the compiler joins best."""
    return F.silu(x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS) * gain)


class NotCompiledError(RuntimeError):
    """There is no compiler, or it failed."""


def _make_cache() -> None:
    """Torch asks for the folder while it is imported, and fails without it."""
    try:
        if not (folder := os.environ.get(CACHE, "")):
            folder = os.path.join(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "nexus", "compiled")
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody knows where home is
        raise NotCompiledError(f"no folder for what is compiled ({error}); name one in {CACHE}") from error
    os.environ[CACHE] = folder


class CompiledSteps:
    """`imagined_step` of an RSSM with N rows, compiled when this is made. NotCompiledError: that is not possible here.

    What is compiled lies in a folder of the user's cache (TORCHINDUCTOR_CACHE_DIR), where the next process finds it.
    """

    def __init__(self, rssm: RSSM, rows: int):
        begun, c = time.perf_counter(), rssm.config
        _make_cache()
        import torch._inductor.config as inductor
        from torch._dynamo.exc import TorchDynamoException

        inductor.compile_threads = 1  # others would be processes that outlive the compilation
        self.rows, self.taken, self._step = rows, 0, torch.compile(imagined_step, fullgraph=True, dynamic=False)
        zeros = rssm.deter_in.linear.weight.new_zeros
        try:
            state = rssm.initial(rows)
            self.begin(rssm, torch.cat([state.deter, state.stoch.flatten(1)], -1))
            self(zeros(rows, rssm.action_in.linear.weight.shape[1]), torch.zeros(rows, c.stoch))
        except (TorchDynamoException, OSError) as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise NotCompiledError(
                f"{reason}. It needs g++, or another compiler that CXX names, and Python's header files"
            ) from error
        self.seconds, self.taken = time.perf_counter() - begun, 0
        """How long that took, and steps taken since."""

    def takes(self, rssm: RSSM, rows: int) -> bool:
        """Whether it was compiled for such steps."""
        return rows == self.rows and not torch.is_autocast_enabled("cpu")

    @torch.no_grad()
    def begin(self, rssm: RSSM, state: Float[Tensor, "N F"]) -> None:
        """The steps to come go on from `state`, with the parameters as they are now."""
        self._mix, self._weights = rssm.config.unimix, Weights.of(rssm)
        deter, stoch = (x.contiguous() for x in state.split([rssm.config.deter, rssm.stoch_width], -1))
        layer = rssm.deter_in.linear
        # The second half of a product, as all that follow.
        both = deter.new_empty(len(deter), 2 * len(layer.weight)).chunk(2, -1)
        both[1].copy_(layer(deter))
        self._state = Ahead(deter, stoch, both[1])

    @torch.no_grad()
    def __call__(
        self, action: Float[Tensor, "N A"], draw: Shaped[Tensor, "N S"]
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N Z"], Float[Tensor, "N S C"]]:
        """The next state and its logits."""
        self._state, logits = self._step(self._weights, self._mix, self._state, action, draw.contiguous())
        self.taken += 1
        return self._state.deter, self._state.stoch, logits
