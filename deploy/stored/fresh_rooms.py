"""Random walks in TwoRoom that are drawn anew whenever an example is read."""

from dataclasses import dataclass

import numpy as np

from actors.envs.two_room import CLIP, SIZE, random_clips
from learner.datasets.generated.held import Held, undrawn

CLIPS = {"train": 100_000, "test": 500}


@dataclass(frozen=True, kw_only=True)
class FreshRooms(Held):
    """Clips as those of `two_room`, in rooms of their own."""

    salt: tuple[int, ...]
    """Of seed and split, so that train and test differ whatever draws an example is read with."""

    def recording(self, index: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        frames, actions, states = random_clips(1, CLIP, [*self.salt, int(rng.integers(2**63))])
        arrays = {"frames": frames[0]}
        return arrays if self.actions is None else arrays | {"actions": actions[0], "states": states[0]}, None


def fresh_rooms(split: str, seed: int) -> FreshRooms:
    """As many as are one pass; `actions` only says that there are some."""
    shape = (CLIPS[split], CLIP, SIZE, SIZE, 3)
    name = f"generated:fresh_two_room ({split}, seed {seed})"
    return FreshRooms(
        name=name, frames=undrawn(shape), actions=np.empty(0, np.float32), salt=(seed, int(split == "train"))
    )
