"""Recurrent state-space model with a block-diagonal GRU.

Legend: B batch, T time, N rows, D deter, S latents, C classes, Z = S * C, A action width, E tokens.
"""

from typing import NamedTuple, cast

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
from world_models.dreamer.gru import gru_update
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
        keep = (~reset).float()[..., None]  # [B T 1]
        # Computed outside the scan since independent of the state: action features and the posterior's token part.
        embedded = self.embed_action(action * keep).unbind(1)
        first, *rest = self.posterior_mlp.layers()
        from_deter, from_token = first.linear.weight.split([self.config.deter, tokens.shape[-1]], 1)
        token_part = nn.functional.linear(tokens, from_token, first.linear.bias).unbind(1)
        from_deter = from_deter.t()
        kernels = self.kernels()
        deter, stoch = state.deter, state.stoch
        out: list[tuple[Tensor, ...]] = []
        for t, (mask, drawn) in enumerate(zip(keep.unbind(1), draw.unbind(1), strict=True)):
            deter = self.core(deter * mask, stoch.flatten(-2) * mask, embedded[t], kernels)
            hidden = first.norm(torch.addmm(token_part[t], deter, from_deter))
            for layer in rest:
                hidden = layer(hidden)
            logits = self._latents(self.posterior_out(hidden))
            stoch, index = self.sample(logits, drawn)
            out.append((deter, stoch, index, logits))
        return Sequence(*(torch.stack(parts, 1) for parts in zip(*out, strict=True)))

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
