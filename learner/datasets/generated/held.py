"""Examples held in memory. Legend: N examples, L frames of a recording, T frames of a clip."""

from dataclasses import dataclass, replace

import numpy as np

from learner.datasets.dataset import Clip, Example
from learner.datasets.keys import Keys, cut, example
from learner.datasets.view import View
from replay.counted import counted

_KEYS = Keys(frames="frames", actions=("actions",), states=("states",))


def undrawn(shape: tuple[int, ...]) -> np.ndarray:
    """Frames of this shape that are drawn only when an example is read: one 0, which takes no memory."""
    return np.broadcast_to(np.zeros((), np.uint8), shape)


@dataclass(frozen=True, kw_only=True)
class Held:
    """N recordings of L frames: `frames` uint8 `[N L S S C]`, C = 1 or 3 (examples always have 3), `actions` float32
    `[N L-1 A]`, `states` float32 `[N L D]`, `labels` int64 `[N]`."""

    name: str
    frames: np.ndarray
    actions: np.ndarray | None = None
    states: np.ndarray | None = None
    labels: np.ndarray | None = None
    clip: Clip = Clip()
    view: View = View()

    @property
    def live(self) -> bool:
        return False

    def __post_init__(self) -> None:
        if self.clip.span > self.frames.shape[1]:
            raise ValueError(
                f"{self.name} has recordings of {counted(self.frames.shape[1], 'frame')}; clips of {self.clip.frames} "
                f"frames, {self.clip.stride} apart, span {self.clip.span}."
            )

    def seen(self, clip: Clip, view: View, conditions: bool = True) -> "Held":
        """The same recordings, seen as such clips; without `conditions`, without actions and states."""
        kept = replace(self, clip=clip, view=view)
        return kept if conditions else replace(kept, actions=None, states=None)

    def __len__(self) -> int:
        return len(self.frames)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        first = int(rng.integers(self.frames.shape[1] - self.clip.span + 1))
        arrays, label = self.recording(index, rng)
        if arrays["frames"].shape[-1] == 1:
            arrays["frames"] = np.broadcast_to(arrays["frames"], (*arrays["frames"].shape[:-1], 3))
        keys = replace(
            _KEYS,
            actions=_KEYS.actions if "actions" in arrays else (),
            states=_KEYS.states if "states" in arrays else (),
        )
        out = example(cut(arrays, keys, first, self.clip.frames, self.clip.stride), keys, self.view, rng, {})
        return out | ({} if label is None else {"label": label})

    def recording(self, index: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Arrays of recording `index`, and its label if there are any."""
        parts = {"frames": self.frames, "actions": self.actions, "states": self.states}
        arrays = {key: value[index] for key, value in parts.items() if value is not None}
        return arrays, None if self.labels is None else self.labels[index]

    def describe(self) -> str:
        size = "x".join(map(str, self.frames.shape[2:4]))
        return f"{self.name}: {counted(len(self), 'example')} of {counted(self.frames.shape[1], 'frame')} {size}"

    def close(self) -> None:
        return None
