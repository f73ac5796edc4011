"""Moves replay batches to the device."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from replay.step import FLAGS
from world_models.distributions import one_hot
from world_models.dreamer.acting import Carry
from world_models.dreamer.agent import Dreamer
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


def batch_of(agent: Dreamer, steps: Mapping[str, Tensor], carry: Carry | None = None) -> DeviceBatch:
    """A batch of B sequences of T steps from tensors or arrays `[B T ...]`, for training without our replay.

    `steps` has each key of the agent's observations, as its space says (images uint8 `[B T H W C]`, integers as class
    indices); each key of its actions, at t the one taken in step t; and `reward`, `is_first` (the first step of an
    episode, whose reward is 0), `is_last` (its last) and `is_terminal` (it ended there, rather than being cut), at t
    those that came with the observation. Other keys are ignored. A sequence begins from the zero state; one that
    continues another from that one's `Update.carry`. An episode may begin anywhere in it. ValueError: a key is missing,
    or has another shape.
    """
    device = next(agent.parameters()).device
    steps = {key: torch.as_tensor(value) for key, value in steps.items()}
    observation, action = agent.observation_space, agent.action_space
    shapes = {key: space.shape for key, space in (observation | action).items()} | dict.fromkeys(FLAGS, ())
    if missing := [key for key in shapes if key not in steps]:
        raise ValueError(
            f"The batch lacks {', '.join(missing)}; it needs {', '.join(shapes)}, each [B T ...], and has "
            f"{', '.join(steps) or 'nothing'}."
        )
    lead = list(steps["is_first"].shape)
    for key, shape in shapes.items():
        if len(lead) != 2 or list(steps[key].shape) != [*lead, *shape]:
            wanted = [*lead, *shape] if len(lead) == 2 else " ".join(["[B T", *map(str, shape)]) + "]"
            raise ValueError(f"{key} has shape {list(steps[key].shape)}; give {wanted}: sequences first, then steps.")
    if carry and len(carry.state.deter) != lead[0]:
        raise ValueError(
            f"The carry is of {len(carry.state.deter)} sequences, the batch of {lead[0]}; a sequence continues the one "
            "in the same row. Leave the carry out to begin anew."
        )
    given = {key: steps[key].to(device, non_blocking=True) for key in shapes}
    given |= {key: given[key].float() if key == "reward" else given[key].bool() for key in FLAGS}
    before = carry.action if carry else {key: torch.zeros_like(given[key][:, 0]) for key in action}
    return DeviceBatch(
        {key: given[key] for key in (*observation, *FLAGS)},
        carry.state if carry else agent.rssm.initial(lead[0], device),
        {key: torch.cat([before[key][:, None].to(given[key].dtype), given[key][:, :-1]], 1) for key in action},
        {key: given[key][:, -1] for key in action},
        torch.zeros(lead[0], dtype=torch.bool, device=device),
    )
