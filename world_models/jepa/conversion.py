"""Foreign weights into a model of ours: every key is accounted for, and nothing is loaded unless all of them fit."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from world_models.jepa.weight_files import Tensors


@dataclass(kw_only=True)
class Converted:
    """Foreign weights under our names, and what became of each key."""

    tensors: Tensors = field(default_factory=dict)
    """By our names."""
    origin: dict[str, str] = field(default_factory=dict)
    """The foreign key or keys of each of our names."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Foreign keys that are not needed, and why."""
    fresh: dict[str, str] = field(default_factory=dict)
    """Prefixes of our names that the layout does not have, and where their values come from instead."""
    notes: list[str] = field(default_factory=list)
    """What the user should know."""
    expected: dict[str, str] = field(default_factory=dict)
    """The foreign names of ours, where they differ, for messages."""

    def add(self, name: str, value: Tensor, origin: str) -> None:
        """ValueError if two foreign keys stand for one of ours."""
        if name in self.tensors:
            raise ValueError(f"{origin} and {self.origin[name]} both stand for {name}; remove one of them.")
        self.tensors[name], self.origin[name] = value, origin

    def copy_part(self, ours: str, other: str) -> None:
        """Take a part that the file lacks altogether from another: one encoder for both."""
        if not any(name.startswith(f"{ours}.") for name in self.tensors):
            for name, value in list(self.tensors.items()):
                if name.startswith(f"{other}."):
                    self.add(name.replace(other, ours, 1), value.clone(), f"{self.origin[name]} (a copy)")

    def load_into(self, model: nn.Module) -> None:
        """Load all tensors as float32. ValueError names every key that is missing, unexpected or of another shape, and
        then nothing is loaded."""
        own = model.state_dict()
        absent = (name for name in own.keys() - self.tensors.keys() if not name.startswith(tuple(self.fresh)))
        missing = sorted(self.expected.get(name, name) for name in absent)
        extra = sorted(self.origin[name] for name in self.tensors.keys() - own.keys())
        wrong = [
            f"{self.origin[name]} {list(self.tensors[name].shape)}, not {list(x.shape)}"
            for name, x in own.items()
            if name in self.tensors and self.tensors[name].shape != x.shape
        ]
        if missing or extra or wrong:
            raise ValueError(
                "The weights do not fit; nothing is loaded. "
                f"Missing: {_listed(missing)}. Unexpected: {_listed(extra)}. Of another shape: {_listed(wrong)}. "
                "The sizes are read from the file itself: it is incomplete, or from another model."
            )
        with torch.no_grad():
            for name, x in own.items():
                if name in self.tensors:
                    x.copy_(self.tensors[name])

    def report(self) -> list[str]:
        """A line for every key."""
        lines = list(self.notes)
        lines += [f"{name} {list(x.shape)} <- {self.origin[name]}" for name, x in sorted(self.tensors.items())]
        lines += [f"{prefix}* <- {why}" for prefix, why in sorted(self.fresh.items())]
        return lines + [f"left out: {name}: {why}" for name, why in sorted(self.left_out.items())]


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
