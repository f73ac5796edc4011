"""Recurrent state-space model with a block-diagonal GRU.

Legend: B batch, T time, N rows, D deter, S latents, C classes, Z = S * C, A action width, E tokens.
"""

from typing import NamedTuple, Protocol, cast

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from world_models.distributions import (
    categorical_entropy,
    categorical_kl,
    pick_class,
    straight_through,
    unimix,
    unimix_probs,
)
from world_models.dreamer.config import RSSMConfig
from world_models.dreamer.recurrence import Kernels, Steps, gru_update
from world_models.dreamer.scan import Walk, scan
from world_models.layers import MLP, BlockLinear, Dense, Linear, NormSilu


class State(NamedTuple):
    """Recurrent state `deter [... D]` and one-hot latents `stoch [... S C]`."""

    deter: Tensor
    stoch: Tensor


class Sequence(NamedTuple):
    """What `observe` returns per step, all `[B T ...]`."""

    deter: Float[Tensor, "B T D"]
    stoch: Float[Tensor, "B T S C"]
    indices: Int[Tensor, "B T S"]
    posterior_logits: Float[Tensor, "B T S C"]


class BlockDense(nn.Module):
    """Block-linear, RMSNorm over all blocks, SiLU."""

    def __init__(self, inputs: int, outputs: int, blocks: int, shared: int = 0):
        super().__init__()
        self.linear = BlockLinear(inputs, outputs, blocks, shared)
        self.norm = NormSilu(outputs)


class CompiledSteps(Protocol):
    """Steps on the prior alone, one after the other and without gradients."""

    def takes(self, rssm: "RSSM", rows: int) -> bool:
        """Whether it can, as things are now."""

    def begin(self, rssm: "RSSM", state: Float[Tensor, "N F"]) -> None:
        """Go on from `state`, F = D + Z, with the parameters as they are now."""

    def __call__(
        self, action: Float[Tensor, "N A"], draw: Shaped[Tensor, "N S"]
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N Z"], Float[Tensor, "N S C"]]:
        """The next state and its raw prior logits."""


class RSSM(nn.Module):
    """Sequence model, posterior and prior (Hafner et al. 2025, eq. 1-3)."""

    def __init__(self, config: RSSMConfig, action_width: int, token_width: int):
        super().__init__()
        c = self.config = config
        self.stoch_width = c.stoch * c.classes
        self.deter_in = Dense(c.deter, c.hidden)
        self.stoch_in = Dense(self.stoch_width, c.hidden)
        self.action_in = Dense(action_width, c.hidden)
        self.dynamics = nn.ModuleList(
            BlockDense(c.deter, c.deter, c.blocks, shared=0 if i else 3 * c.hidden) for i in range(c.dynamics_layers)
        )
        gru_shared = 0 if c.dynamics_layers else 3 * c.hidden
        self.gru = BlockLinear(c.deter, 3 * c.deter, c.blocks, shared=gru_shared)
        self.prior_mlp = MLP(c.deter, c.hidden, c.prior_layers)
        self.prior_out = Linear(c.hidden, self.stoch_width)
        self.posterior_mlp = MLP(c.deter + token_width, c.hidden, c.posterior_layers)
        self.posterior_out = Linear(c.hidden, self.stoch_width)
        self.walk: Walk | None = None
        """How `observe` takes its steps, instead of operator by operator."""
        self.compiled_steps: CompiledSteps | None = None
        """How imagined steps are taken, instead of operator by operator."""

    def initial(self, rows: int, device: torch.device | None = None) -> State:
        """Zeros; there is no learned initial state."""
        c = self.config
        return State(torch.zeros(rows, c.deter, device=device), torch.zeros(rows, c.stoch, c.classes, device=device))

    def embed_action(self, action: Float[Tensor, "... A"]) -> Float[Tensor, "... H"]:
        """Action divided by `max(1, |a|)` elementwise, then a dense layer."""
        return self.action_in(action / action.detach().abs().clamp_min(1))

    def kernels(self) -> list[tuple[Tensor, Tensor]]:
        """Block kernels, split once for a whole scan."""
        return [layer.linear.split() for layer in self.dynamics_layers()] + [self.gru.split()]

    def scan_kernels(self) -> Kernels:
        """The kernels of many steps, in the type that products are computed in."""
        device, hidden = self.gru.weight.device.type, 2 * self.config.hidden
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.gru.weight.dtype
        inputs, blocks = (self.deter_in, self.stoch_in), [*(layer.linear for layer in self.dynamics_layers()), self.gru]
        split, posterior = [layer.split() for layer in blocks], self.posterior_mlp.layers()
        dense = [posterior[0].linear.weight[:, : self.config.deter], *(x.linear.weight for x in posterior[1:])]
        return Kernels(
            inputs=tuple(transposed(layer.linear.weight, dtype) for layer in inputs),
            input_bias=torch.stack([layer.linear.bias for layer in inputs]).to(dtype),
            input_gain=torch.stack([layer.norm.weight for layer in inputs]),
            shared=split[0][1][:hidden].to(dtype),
            own=tuple(own.to(dtype).contiguous() for own, _ in split),
            bias=tuple(layer.bias.view(layer.blocks, 1, -1) for layer in blocks[1:]),
            gain=tuple(layer.norm.weight for layer in self.dynamics_layers()),
            posterior=tuple(transposed(weight, dtype) for weight in (*dense, self.posterior_out.weight)),
            posterior_bias=tuple(x.bias.to(dtype) for x in (*(x.linear for x in posterior[1:]), self.posterior_out)),
            posterior_gain=tuple(layer.norm.weight for layer in posterior),
        )

    def steps(self, rows: int) -> Steps:
        """Recurrent steps of N rows without autograd."""
        return Steps(self.scan_kernels(), rows)

    def action_part(self, embedded: Float[Tensor, "... H"]) -> Float[Tensor, "... O"]:
        """The embedded action's part of the first block layer, with its bias."""
        first = self.dynamics_layers()[0].linear if self.dynamics else self.gru
        return nn.functional.linear(embedded, first.split()[1][2 * self.config.hidden :].t(), first.bias)

    def dynamics_layers(self) -> list[BlockDense]:
        """The layers before the GRU's gates."""
        return [cast(BlockDense, layer) for layer in self.dynamics]

    def core(
        self,
        deter: Float[Tensor, "N D"],
        stoch: Float[Tensor, "N Z"],
        action: Float[Tensor, "N H"],
        kernels: list[tuple[Tensor, Tensor]] | None = None,
    ) -> Float[Tensor, "N D"]:
        """One recurrent step of the block-GRU from the embedded action."""
        kernels = kernels or self.kernels()
        shared = torch.cat([self.deter_in(deter), self.stoch_in(stoch), action], -1)
        x = deter
        for i, layer in enumerate(self.dynamics_layers()):
            x = layer.norm(layer.linear(x, None if i else shared, kernels[i]))
        return gru_update(self.gru.by_block(x, None if self.dynamics else shared, kernels[-1]), deter)

    def prior(self, deter: Float[Tensor, "... D"]) -> Float[Tensor, "... S C"]:
        """Raw prior logits."""
        return self._latents(self.prior_out(self.prior_mlp(deter)))

    def posterior(self, deter: Float[Tensor, "... D"], tokens: Float[Tensor, "... E"]) -> Float[Tensor, "... S C"]:
        """Raw posterior logits."""
        return self._latents(self.posterior_out(self.posterior_mlp(torch.cat([deter, tokens], -1))))

    def _latents(self, logits: Tensor) -> Tensor:
        return logits.float().unflatten(-1, (self.config.stoch, self.config.classes))

    def log_probs(self, logits: Float[Tensor, "... S C"]) -> Float[Tensor, "... S C"]:
        return unimix(logits, self.config.unimix)

    def sample(self, logits: Float[Tensor, "... S C"], draw: Shaped[Tensor, "... S"]) -> tuple[Tensor, Tensor]:
        """Straight-through one-hot and its index, from a uniform draw (or a forced index)."""
        probs = unimix_probs(logits, self.config.unimix)
        index = pick_class(probs.detach(), draw)
        return straight_through(probs, index), index

    def observe(
        self,
        state: State,
        tokens: Float[Tensor, "B T E"],
        action: Float[Tensor, "B T A"],
        reset: Bool[Tensor, "B T"],
        draw: Shaped[Tensor, "B T S"],
    ) -> Sequence:
        """Filter a sequence. `action[:, t]` is the action that led to step t; a reset zeroes state and action."""
        # Time first. What does not depend on the state is computed for all steps at once.
        tokens, action, reset, draw = (x.transpose(0, 1) for x in (tokens, action, reset, draw))
        keep = (~reset).float()[..., None]
        kernels = self.scan_kernels()
        base = self.action_part(self.embed_action(action * keep))
        linear = self.posterior_mlp.layers()[0].linear
        token = nn.functional.linear(tokens, linear.weight[:, self.config.deter :], linear.bias)
        return Sequence(
            *scan(kernels, self.config.unimix, state.deter, state.stoch, keep, base, token, draw, self.walk)
        )

    def observe_step(
        self,
        state: State,
        tokens: Float[Tensor, "N E"],
        action: Float[Tensor, "N A"],
        reset: Bool[Tensor, " N"],
        draw: Shaped[Tensor, "N S"],
    ) -> tuple[State, Int[Tensor, "N S"]]:
        """One filtering step, for acting."""
        step = self.observe(state, tokens[:, None], action[:, None], reset[:, None], draw[:, None])
        return State(step.deter[:, 0], step.stoch[:, 0]), step.indices[:, 0]

    def imagine_step(
        self,
        state: State,
        action: Float[Tensor, "N A"],
        draw: Shaped[Tensor, "N S"],
        kernels: list[tuple[Tensor, Tensor]] | None = None,
    ) -> tuple[State, Float[Tensor, "N S C"]]:
        """One step on the prior alone: next state and its raw logits."""
        deter = self.core(state.deter, state.stoch.flatten(-2), self.embed_action(action), kernels)
        logits = self.prior(deter)
        return State(deter, self.sample(logits, draw)[0]), logits

    def kl_losses(
        self, posterior: Float[Tensor, "... S C"], prior: Float[Tensor, "... S C"]
    ) -> tuple[dict[str, Float[Tensor, "..."]], dict[str, Float[Tensor, ""]]]:
        """Dynamics and representation losses with free nats, and the mean entropies (eq. 5).

        Both use the unimixed distributions, summed over the latents and then clipped per step.
        """
        post, pri = self.log_probs(posterior), self.log_probs(prior)
        dynamics = categorical_kl(post.detach(), pri).sum(-1)
        representation = categorical_kl(post, pri.detach()).sum(-1)
        free = self.config.free_nats
        losses = {"dynamics": dynamics.clamp_min(free), "representation": representation.clamp_min(free)}
        entropies = {
            "dynamics_entropy": categorical_entropy(pri.detach()).sum(-1).mean(),
            "representation_entropy": categorical_entropy(post.detach()).sum(-1).mean(),
        }
        return losses, entropies


def transposed(weight: Float[Tensor, "O I"], dtype: torch.dtype) -> Float[Tensor, "I O"]:
    """A contiguous copy."""
    return weight.t().to(dtype, memory_format=torch.contiguous_format)
