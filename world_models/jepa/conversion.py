"""Foreign weights into a model of ours: every key is accounted for, and nothing is loaded unless all of them fit."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from world_models.jepa.weight_files import Tensors
from world_models.parameters import load_parameters


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
        load_parameters(
            model, self.tensors, "The file",
            "The sizes are read from it or its config.json: it is incomplete, or of another model.",
            shown=self.expected | self.origin, optional=tuple(self.fresh),
        )  # fmt: skip

    def report(self) -> list[str]:
        """A line for every key."""
        lines = list(self.notes)
        lines += [f"{name} {list(x.shape)} <- {self.origin[name]}" for name, x in sorted(self.tensors.items())]
        lines += [f"{prefix}* <- {why}" for prefix, why in sorted(self.fresh.items())]
        return lines + [f"left out: {name}: {why}" for name, why in sorted(self.left_out.items())]
