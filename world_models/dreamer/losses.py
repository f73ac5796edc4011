"""Actor-critic losses of DreamerV3, unreduced.

Legend: N imagined rows, H imagined steps, H1 = H + 1 states, B batch, T time.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from world_models.distributions import TwoHot
from world_models.dreamer.config import DreamerConfig
from world_models.dreamer.heads import ActionDistribution
from world_models.dreamer.return_scale import ReturnScale
from world_models.joining import Join, alone
from world_models.returns import lambda_return


class LossOutput(NamedTuple):
    """Losses, metrics to log, and intermediate values."""

    losses: dict[str, Tensor]
    metrics: dict[str, Tensor]
    values: dict[str, Any]
    """Intermediate values, for parity tests and reports."""


def _value_loss(value: TwoHot, slow: Tensor, target: Tensor, regularizer: float) -> Tensor:
    """Two-hot loss to the return and to the slow value's own prediction; the last step has no return and is dropped."""
    padded = torch.cat([target, torch.zeros_like(target[:, -1:])], 1)
    index, weight = zip(value.encode(padded), value.encode(slow), strict=True)
    # The cross-entropy is linear in its target: one pass for the sum of both.
    return value.cross_entropy(torch.cat(index, -1), torch.cat([weight[0], regularizer * weight[1]], -1))[:, :-1]


def imagination_losses(
    config: DreamerConfig,
    actions: dict[str, Tensor],
    reward: Float[Tensor, "N H1"],
    carry_on: Float[Tensor, "N H1"],
    policy: dict[str, ActionDistribution],
    value: TwoHot,
    slow: Float[Tensor, "N H1"],
    return_scale: ReturnScale,
    join: Join = alone,
) -> LossOutput:
    """Policy and value losses `[N H]` on imagined steps (Hafner et al. 2025, eqs. 8, 11, 12).

    `slow` is the slow value's prediction. The normaliser is updated before it is used, with the returns of all parts
    of the batch; its offset does not enter the advantage.
    """
    with torch.no_grad():
        fast = value.pred()
        target = slow if config.slow_target else fast
        discount = 1.0 if config.discount_in_continue else 1 - 1 / config.horizon
        weight = torch.cumprod(discount * carry_on, 1) / discount
        returns = lambda_return(torch.zeros_like(carry_on), 1 - carry_on, reward, target, discount, config.lam)
        return_scale.update(returns, join)
        offset, scale = return_scale.stats()
        advantage = (returns - target[:, :-1]) / scale
        normed = (returns - offset) / scale
    logp = sum(dist.logp(actions[key])[:, :-1] for key, dist in policy.items())
    entropy = {key: dist.entropy()[:, :-1] for key, dist in policy.items()}
    entropy_sum = sum(entropy.values())
    losses = {
        "policy": weight[:, :-1] * -(logp * advantage + config.entropy * entropy_sum),
        "value": weight[:, :-1] * _value_loss(value, slow, returns, config.slow_regularizer),
    }
    metrics = {
        "advantage": advantage.mean(),
        "advantage_std": advantage.std(unbiased=False),
        "advantage_magnitude": advantage.abs().mean(),
        "reward": reward.mean(),
        "continue": carry_on.mean(),
        "return": normed.mean(),
        "return_min": normed.min(),
        "return_max": normed.max(),
        "return_rate": (normed.abs() >= 1).float().mean(),
        "return_scale": torch.as_tensor(scale),
        "value": fast.mean(),
        "target": returns.mean(),
        "weight": weight.mean(),
        "slow_value": slow.mean(),
    }
    for key, dist in policy.items():
        mean = entropy[key].detach().mean()
        metrics[f"entropy/{key}"] = mean
        if dist.entropy_range:
            low, high = dist.entropy_range
            metrics[f"randomness/{key}"] = (mean - low) / (high - low)
    values = {"value": fast, "slow_value": slow, "return": returns, "policy": policy, "logp": logp, "entropy": entropy}
    return LossOutput(losses, metrics, values)


def replay_value_loss(
    config: DreamerConfig,
    last: Bool[Tensor, "B T"],
    terminal: Bool[Tensor, "B T"],
    reward: Float[Tensor, "B T"],
    bootstrap: Float[Tensor, "B T"],
    value: TwoHot,
    slow: Float[Tensor, "B T"],
) -> LossOutput:
    """Value loss `[B T-1]` on replayed steps (paper, Methods, critic learning).

    Uses hard terminals and the plain discount, and bootstraps from the imagined return at every step.
    """
    with torch.no_grad():
        fast = value.pred()
        returns = lambda_return(last.float(), terminal.float(), reward, bootstrap, 1 - 1 / config.horizon, config.lam)
        weight = (~last).float()[:, :-1]
    loss = weight * _value_loss(value, slow, returns, config.slow_regularizer)
    return LossOutput({"replay_value": loss}, {}, {"value": fast, "slow_value": slow, "return": returns})
