"""Exploration by disagreement: an ensemble of one-step predictors, and the reward for what they cannot agree on.

Plan2Explore (Sekar et al. 2020, arXiv 2005.05960, latent disagreement). Inputs, target and loss are those of an early
public version of DreamerV3 (danijar/dreamerv3 ec526b9, `expl.py`). That takes the standard deviation as reward, and
gives it to the action before the one that causes it; here it is the paper's variance, for the action that causes it, in
units of its own moving average, as intrinsic rewards of Burda et al. 2018 (arXiv 1810.12894, section 2.4) are.

Legend: N rows, K members, F features, A width of an action vector, Z flattened latents, B batch, T time, H1 = H + 1
states of which H are imagined.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from world_models.chunks import in_chunks
from world_models.dreamer.config import DreamerConfig, ExplorationConfig
from world_models.joining import Join, alone
from world_models.layers import MLP, Linear, total_width
from world_models.returns import lambda_return
from world_models.space import Spaces

RATE = 0.05
"""Of the moving average of the variance on replayed steps."""


class Member(nn.Module):
    """One predictor: MLP and the mean of a Gaussian with variance 1."""

    def __init__(self, inputs: int, units: int, layers: int, outputs: int):
        super().__init__()
        self.mlp = MLP(inputs, units, layers)
        self.out = Linear(units, outputs)

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... Z"]:
        return self.out(self.mlp(x))


class Disagreement(nn.Module):
    """K networks that predict the latents `z'` after an action `a` from the features `s` before it.

    Their disagreement is the variance of their means `mu_k`, averaged over the latents:
    `D(s, a) = mean_z (1 / (K - 1)) sum_k (mu_k(s, a) - mean_k mu_k(s, a))^2`. They differ where they were trained
    little; where `z'` is noisy they agree on its mean. The intrinsic reward of a step is D over `typical`, the moving
    average of D on replayed steps: 1 for what replay holds, whatever the task and however long the ensemble has learnt.
    No gradient leaves the ensemble.
    """

    typical: Tensor

    def __init__(self, action: Spaces, model: DreamerConfig, config: ExplorationConfig):
        super().__init__()
        self.config, self.model = config, model
        latents = model.rssm.stoch * model.rssm.classes
        inputs = model.rssm.deter + latents + total_width(action)
        units, layers = config.shape(model)
        self.members = nn.ModuleList(Member(inputs, units, layers, latents) for _ in range(config.members))
        self.register_buffer("typical", torch.zeros(()))

    def forward(self, features: Float[Tensor, "... F"], action: Float[Tensor, "... A"]) -> Float[Tensor, "K ... Z"]:
        """The mean that each member predicts, in float32. Actions are bounded as the RSSM bounds them."""
        inputs = torch.cat([features, action / action.abs().clamp_min(1)], -1).detach()
        return torch.stack([member(inputs) for member in self.members]).float()

    def _variance(self, features: Float[Tensor, "... F"], action: Float[Tensor, "... A"]) -> Float[Tensor, "..."]:
        return self(features, action).var(0).mean(-1)

    def replayed(
        self,
        features: Float[Tensor, "B T F"],
        action: Float[Tensor, "B T A"],
        latents: Float[Tensor, "B T Z"],
        first: Bool[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T-1"], Float[Tensor, "B T"]]:
        """The loss of predicting each step's posterior latents from the step before, and the disagreement on arriving
        in each step.

        `action[:, t]` led into step t. The loss is half the squared error, summed over the latents and averaged over
        the members. Both are 0 where a step begins an episode, disagreement also at the first step, whose past is
        unknown.
        """
        real = (~first[:, 1:]).float()
        means = self(features[:, :-1], action[:, 1:])
        loss = real * 0.5 * (means - latents[:, 1:].detach()).square().sum(-1).mean(0)
        apart = real * means.detach().var(0).mean(-1)
        return loss, nn.functional.pad(apart, (1, 0))

    @torch.no_grad()
    def follow(
        self, replayed: Float[Tensor, "B T"], first: Bool[Tensor, "B T"], join: Join = alone
    ) -> Float[Tensor, ""]:
        """Carry the moving average on with the disagreement of a batch, joined with the parts that belong to it, and
        return its mean; the first batch is where the average begins."""
        total, steps = join(torch.stack([replayed.sum(), (~first[:, 1:]).sum().float()])[None]).sum(0)
        mean = total / steps.clamp_min(1)
        self.typical.copy_(torch.where(self.typical > 0, self.typical.lerp(mean, RATE), mean))
        return mean

    @torch.no_grad()
    def imagined(self, features: Float[Tensor, "N H1 F"], action: Float[Tensor, "N H1 A"]) -> Float[Tensor, "N H1"]:
        """The disagreement on arriving in each imagined state, by the action chosen in the one before; the first is
        where imagination begins, and has 0."""
        return nn.functional.pad(in_chunks(self._variance, 64, features[:, :-1], action[:, :-1]), (1, 0))

    def intrinsic(self, apart: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The intrinsic reward of a disagreement, with its weight."""
        return self.config.disagreement * apart / self.typical.clamp_min(1e-12)

    def reward(self, task: Float[Tensor, "..."], apart: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """What the policy is to maximise: the weighted sum of the task's reward and the intrinsic one."""
        return self.config.task * task + self.intrinsic(apart)

    @torch.no_grad()
    def metrics(
        self,
        replayed: Float[Tensor, ""],
        imagined: Float[Tensor, "N H1"],
        task: Float[Tensor, "N H1"],
        carry_on: Float[Tensor, "N H1"],
    ) -> dict[str, Tensor]:
        """Mean disagreement on real steps, as `follow` returns it, and on imagined ones, and the discounted sums over
        the imagined steps of the two parts of the reward, each with its weight."""
        config = self.model
        discount = 1.0 if config.discount_in_continue else 1 - 1 / config.horizon
        none = torch.zeros_like(carry_on)

        def returned(reward: Tensor) -> Tensor:
            return lambda_return(none, 1 - carry_on, reward, none, discount, 1.0)[:, 0].mean()

        return {
            "disagreement_replay": replayed,
            "disagreement_imagined": imagined[:, 1:].mean(),
            "intrinsic_return": returned(self.intrinsic(imagined)),
            "task_return": returned(self.config.task * task),
        }
