"""Bootstrapped lambda-returns."""

import torch
from jaxtyping import Float
from torch import Tensor


def lambda_return(
    last: Float[Tensor, "B T"],
    terminal: Float[Tensor, "B T"],
    reward: Float[Tensor, "B T"],
    bootstrap: Float[Tensor, "B T"],
    discount: float,
    lam: float,
) -> Float[Tensor, "B T-1"]:
    """`R_t = r_{t+1} + g_{t+1} ((1 - c_{t+1}) v_{t+1} + c_{t+1} R_{t+1})` with `g = (1 - terminal) discount`,
    `c = (1 - last) lam`, seeded with the last bootstrap (Hafner et al. 2025, eq. 7).

    Every input is read at t + 1. `terminal` may be soft: one minus a continue probability.
    """
    live = (1 - terminal)[:, 1:] * discount
    carry_on = (1 - last)[:, 1:] * lam
    direct = reward[:, 1:] + live * (1 - carry_on) * bootstrap[:, 1:]
    decay = (live * carry_on).unbind(1)
    value, out = bootstrap[:, -1], []
    for step, reward_part in reversed(list(enumerate(direct.unbind(1)))):
        value = reward_part + decay[step] * value
        out.append(value)
    return torch.stack(out[::-1], 1)
