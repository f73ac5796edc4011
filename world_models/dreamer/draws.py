"""All randomness of one update, drawn in advance.

The update is then a pure function of parameters, batch and draws: repeatable from (seed, update number) alone, without
host synchronisation, and parity tests force the official samples through the same path.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from world_models.space import Spaces


class Draws(NamedTuple):
    """B batch, T time, S latents, N = B * K imagined rows, H imagined steps."""

    posterior: Tensor
    """`[B T S]` uniform, or int64 indices to force."""
    latents: Tensor
    """`[N H S]` uniform, or int64 indices to force."""
    actions: dict[str, Tensor]
    """`[N H+1 *shape]` per key: uniform (discrete), standard normal (continuous), or the actions to force."""
    forced: bool = False

    def part(self, number: int, of: int) -> "Draws":
        """Those of part `number` of as many equal parts of the batch."""
        actions = {key: value.chunk(of)[number] for key, value in self.actions.items()}
        return Draws(self.posterior.chunk(of)[number], self.latents.chunk(of)[number], actions, self.forced)


def mix_seed(seed: int, number: int) -> int:
    """A generator seed for draw `number` of `seed`, spread so that neighbouring pairs do not collide."""
    return (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 1) % 2**63


def draw_actions(spaces: Spaces, lead: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
    """One draw per action element: uniform for discrete keys, normal for continuous ones."""
    device = generator.device
    return {
        key: (torch.rand if spaces[key].discrete else torch.randn)(
            *lead, *spaces[key].shape, generator=generator, device=device
        )
        for key in sorted(spaces)
    }


def draw_update(
    spaces: Spaces, batch: int, time: int, stoch: int, rows: int, horizon: int, generator: torch.Generator
) -> Draws:
    """Fresh draws on the generator's device."""
    device = generator.device
    return Draws(
        torch.rand(batch, time, stoch, generator=generator, device=device),
        torch.rand(rows, horizon, stoch, generator=generator, device=device),
        draw_actions(spaces, (rows, horizon + 1), generator),
    )
