"""Moves replay batches to the device."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from replay.step import FLAGS
from world_models.distributions import one_hot
from world_models.dreamer.rssm import State
from world_models.space import Spaces


class DeviceBatch(NamedTuple):
    """One training batch of B sequences, T training columns after one context column."""

    steps: dict[str, Tensor]
    """Observations, reward and flags of the training columns, `[B T ...]`."""
    start: State
    """Latents stored at the context column: `deter [B D]`, one-hot `stoch [B S C]`."""
    previous_action: dict[str, Tensor]
    """`[B T ...]`: entry t led into training step t; entry 0 is the context column's action."""
    last_action: dict[str, Tensor]
    """`[B ...]`: the action taken at the last training step, for a batch that continues this one."""
    continues: Tensor
    """`[B]` bool: the sequence continues the previous batch, whose final state replaces `start`."""

    def part(self, number: int, of: int) -> "DeviceBatch":
        """The rows of part `number` of as many equal parts."""

        def rows(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {key: value.chunk(of)[number] for key, value in tensors.items()}

        start = State(self.start.deter.chunk(of)[number], self.start.stoch.chunk(of)[number])
        continues = self.continues.chunk(of)[number]
        return DeviceBatch(rows(self.steps), start, rows(self.previous_action), rows(self.last_action), continues)


def to_device(
    arrays: dict[str, np.ndarray], observation: Spaces, action: Spaces, classes: int, device: torch.device
) -> DeviceBatch:
    """Converts numpy sequences `[B 1+T ...]` with first-column latents `deter [B D]`, `stoch [B S]` (indices, -1 for
    none, or one-hot `[B S C]` as in the reference vectors) to a `DeviceBatch` on `device`.

    The context column's observation, reward and flags are dropped, so training starts mid-episode without a reset.
    """

    def move(array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

    steps = {key: move(arrays[key][:, 1:]) for key in (*observation, *FLAGS)}
    moves = {key: move(arrays[key]) for key in action}
    stoch = move(arrays["stoch"])
    if stoch.ndim == 2:
        stoch = one_hot(stoch.long().clamp_min(0), classes) * (stoch >= 0)[..., None]
    consec = arrays.get("consec")
    continues = np.zeros(len(stoch), bool) if consec is None else np.asarray(consec)[:, 0] > 0
    return DeviceBatch(
        steps,
        State(move(arrays["deter"]).float(), stoch.float()),
        {key: value[:, :-1] for key, value in moves.items()},
        {key: value[:, -1] for key, value in moves.items()},
        move(continues),
    )
