"""The whole DreamerV3 agent: world model, actor, critic and its slow copy.

Legend: B batch, T time, K start steps per sequence, N = B * K, H imagined steps.
"""

import copy
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from world_models.chunks import in_chunks
from world_models.dreamer.anchor import Anchor
from world_models.dreamer.config import DreamerConfig
from world_models.dreamer.decoder import Decoder
from world_models.dreamer.disagreement import Disagreement
from world_models.dreamer.draws import Draws
from world_models.dreamer.encoder import Encoder
from world_models.dreamer.heads import BinaryHead, Policy, TwoHotHead, feature
from world_models.dreamer.imagination import imagine
from world_models.dreamer.losses import imagination_losses, replay_value_loss
from world_models.dreamer.return_scale import ReturnScale
from world_models.dreamer.rssm import RSSM, Sequence, State
from world_models.joining import Join, alone
from world_models.layers import concat_dict, total_width
from world_models.space import Spaces
from world_models.stages import begin

MODEL_LOSSES = ("reconstruction", "reward", "continuation", "dynamics", "representation")


class Output(NamedTuple):
    """Result of `Dreamer.loss` on one batch."""

    losses: dict[str, Tensor]
    """Unreduced, `[B T]` (`replay_value`: `[B T-1]`); observation keys under `reconstruction/<key>`."""
    metrics: dict[str, Tensor]
    sequence: Sequence
    """Posterior states: the refreshed latents for replay."""
    values: dict[str, Any]


class Dreamer(nn.Module):
    """DreamerV3 over dict observations and dict actions (Hafner et al., Nature 2025)."""

    slow_count: Tensor

    def __init__(self, observation: Spaces, action: Spaces, config: DreamerConfig):
        super().__init__()
        self.observation_space, self.action_space, self.config = observation, action, config
        stoch = config.rssm.stoch * config.rssm.classes
        width = config.rssm.deter + stoch
        self.encoder = Encoder(observation, config.encoder)
        self.rssm = RSSM(config.rssm, total_width(action), self.encoder.width)
        self.decoder = Decoder(observation, config.rssm.deter, stoch, config.decoder)
        self.reward = TwoHotHead(width, config.reward)
        self.continuation = BinaryHead(width, config.continuation)
        self.policy = Policy(width, action, config.policy)
        self.value = TwoHotHead(width, config.value)
        self.slow_value = copy.deepcopy(self.value).requires_grad_(False)
        self.return_scale = ReturnScale(config.return_scale)
        self.register_buffer("slow_count", torch.zeros((), dtype=torch.int64))
        # Last, so that the initial parameters of all others are those of an agent with one head.
        if config.reward_heads > 1:
            self.more_rewards = nn.ModuleList(TwoHotHead(width, config.reward) for _ in range(config.reward_heads - 1))

    def loss(
        self,
        batch: dict[str, Tensor],
        start: State,
        previous_action: dict[str, Tensor],
        draws: Draws,
        exploration: Disagreement | None = None,
        anchor: Anchor | None = None,
        join: Join = alone,
    ) -> Output:
        """All losses of one update.

        `batch` holds the T training columns `[B T ...]`, `start` the stored latents of the context column,
        `previous_action[key][:, t]` the action that led into step t. With an ensemble for `exploration` its loss is one
        more, and policy and values learn from the sum of the task's reward and the intrinsic one. With an `anchor` the
        penalty for leaving it is one more.

        The losses of a part of a batch are those of its rows in the whole if `join` joins it with the other parts: once
        for the returns and, with an ensemble, once before that for its disagreement.
        """
        losses, metrics, sequence, values = self.world_model_losses(batch, start, previous_action, draws)
        config, (rows, time) = self.config, batch["is_first"].shape
        if anchor is not None:
            begin("anchor")
            action, prior = concat_dict(self.action_space, previous_action), values["prior_logits"]
            losses["anchor"], found = anchor.losses(
                batch, start, action, batch["is_first"], draws.posterior, sequence, prior
            )
            metrics |= {f"anchor/{key}": value for key, value in found.items()}
        take = min(config.imagination_last or time, time)

        begin("imagine")
        origin = State(*(x[:, -take:].flatten(0, 1).detach() for x in (sequence.deter, sequence.stoch)))
        imagined = imagine(self.rssm, self.policy, origin, draws)
        begin("judge")
        with torch.no_grad():
            reward, carry_on, slow = in_chunks(self._judge, 64, imagined.features)
        replay_reward = batch["reward"]
        if exploration is not None:
            begin("explore")
            first, latents = batch["is_first"], sequence.stoch.flatten(-2)
            taken, chosen = (concat_dict(self.action_space, one) for one in (previous_action, imagined.actions))
            losses["disagreement"], novel = exploration.replayed(values["feature"], taken, latents, first)
            mean = exploration.follow(novel, first, join)
            expected = exploration.imagined(imagined.features, chosen)
            found = exploration.metrics(mean, expected, reward, carry_on)
            metrics |= {f"exploration/{key}": value for key, value in found.items()}
            reward, replay_reward = exploration.reward(reward, expected), exploration.reward(replay_reward, novel)
        begin("losses")
        out = imagination_losses(
            config, imagined.actions, reward, carry_on, imagined.policy, self.value(imagined.features),
            slow, self.return_scale, join,
        )  # fmt: skip
        losses |= {key: loss.mean(1).view(rows, take) for key, loss in out.losses.items()}
        metrics |= {f"imagination/{key}": value for key, value in out.metrics.items()}
        values |= {"imagined": imagined, "reward": reward, "continue": carry_on, "imagination": out}

        if config.replay_value:
            last, terminal, rewards = (x[:, -take:] for x in (batch["is_last"], batch["is_terminal"], replay_reward))
            seen = values["feature"][:, -take:]
            seen = seen if config.replay_value_gradient else seen.detach()
            bootstrap = out.values["return"][:, 0].view(rows, take)
            with torch.no_grad():
                slow = self.slow_value(seen).pred()
            replayed = replay_value_loss(config, last, terminal, rewards, bootstrap, self.value(seen), slow)
            losses |= replayed.losses
            values |= {"replayed": replayed, "bootstrap": bootstrap}
        return Output(losses, metrics, sequence, values)

    def _judge(self, features: Float[Tensor, "N H1 F"]) -> tuple[Tensor, Tensor, Tensor]:
        """Reward, continue probability and slow value of imagined states."""
        return self.expected_reward(features), self.continuation(features).prob(), self.slow_value(features).pred()

    def expected_reward(self, features: Float[Tensor, "... F"]) -> Float[Tensor, "..."]:
        """The reward of states, as the policy is to believe it: the least that a reward head predicts."""
        return self.head_rewards(features).amin(0)

    def head_rewards(self, features: Float[Tensor, "... F"]) -> Float[Tensor, "E ..."]:
        """What each reward head predicts."""
        return torch.stack([head(features).pred() for head in self.reward_heads])

    @property
    def reward_heads(self) -> list[TwoHotHead]:
        return [self.reward, *cast("list[TwoHotHead]", getattr(self, "more_rewards", ()))]

    def world_model_losses(
        self, batch: dict[str, Tensor], start: State, previous_action: dict[str, Tensor], draws: Draws
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Sequence, dict[str, Any]]:
        """Reconstruction, reward, continue and KL losses `[B T]` (eqs. 4, 5)."""
        config, reset = self.config, batch["is_first"]
        begin("encode")
        tokens = self.encoder(batch)
        begin("observe")
        action = concat_dict(self.action_space, previous_action)
        sequence = self.rssm.observe(start, tokens, action, reset, draws.posterior)
        begin("predict")
        prior = self.rssm.prior(sequence.deter)
        losses, metrics = self.rssm.kl_losses(sequence.posterior_logits, prior)

        stoch = sequence.stoch.flatten(-2)
        reconstruction = self.decoder(sequence.deter, stoch)
        for key, dist in reconstruction.items():
            target = batch[key].float() / 255 if self.observation_space[key].is_image else batch[key]
            losses[f"reconstruction/{key}"] = dist.loss(target)
        seen = feature(sequence.deter, stoch)
        reward = self.reward(seen if config.reward_gradient else seen.detach())
        losses["reward"] = reward.loss(batch["reward"])
        if config.reward_heads > 1:
            given = seen if config.reward_gradient else seen.detach()
            each = [losses["reward"], *(head(given).loss(batch["reward"]) for head in self.reward_heads[1:])]
            losses["reward"] = torch.stack(each).mean(0)
        carry_on = self.continuation(seen)
        goes_on = (~batch["is_terminal"]).float()
        if config.discount_in_continue:
            goes_on = goes_on * (1 - 1 / config.horizon)
        losses["continuation"] = carry_on.loss(goes_on)
        values = {"tokens": tokens, "prior_logits": prior, "feature": seen, "reconstruction": reconstruction,
                  "replay_reward": reward, "replay_continue": carry_on}  # fmt: skip
        return losses, metrics, sequence, values

    def total(self, losses: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Scaled sum of the mean losses; those of an ensemble, which has parameters of its own, and of an anchor, which
        has its weight in it, count as they are."""
        scales = {"disagreement": 1.0, "anchor": 1.0} | vars(self.config.loss_scales)
        return sum(scales[key.split("/")[0]] * loss.mean() for key, loss in losses.items())

    def model_loss(self, losses: dict[str, Tensor]) -> Float[Tensor, "B T"]:
        """Scaled sum of the world model's losses at every step (eqs. 4, 5): the official signal for priorities."""
        scales = self.config.loss_scales
        return sum(
            getattr(scales, name) * loss for key, loss in losses.items() if (name := key.split("/")[0]) in MODEL_LOSSES
        )

    @torch.no_grad()
    def update_slow(self) -> None:
        """Move the slow value towards the fast one; call it after the optimiser step."""
        rate = self.config.slow_rate * (self.slow_count % self.config.slow_every == 0).float()
        slow: list[Tensor] = list(self.slow_value.parameters())
        fast: list[Tensor] = list(self.value.parameters())
        torch._foreach_mul_(slow, 1 - rate)
        torch._foreach_add_(slow, list(torch._foreach_mul(fast, rate)))
        self.slow_count += 1
