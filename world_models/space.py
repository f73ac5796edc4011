"""The type of one observation or action key. Torch-free, so that environments and the supervisor can use it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """One key of a dict observation or dict action.

    `dtype` is float32, int32, uint8 or bool; `shape` is one element's shape. `classes > 0` marks a discrete space with
    values `0..classes-1` (every element of `shape`); a uint8 space of shape `[H W C]` is an image; a float32 space is
    continuous with elementwise bounds `low`, `high`.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    classes: int = 0
    low: np.ndarray | float | int = -np.inf
    high: np.ndarray | float | int = np.inf
    native: Mapping[str, Any] | None = None
    """How the environment itself represents the value: JSON-ready `path`, `dtype`, `shape`, `start`, `low`, `high`."""

    def __post_init__(self) -> None:
        dtype = np.dtype(self.dtype)
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if dtype == np.bool_ and not self.classes:
            object.__setattr__(self, "classes", 2)
        allowed = ("float32", "int32", "uint8", "bool")
        if dtype.name not in allowed:
            raise ValueError(f"Space dtype {dtype.name!r} is not one of {allowed}; convert it in the adapter.")
        if dtype == np.int32 and self.classes <= 0:
            raise ValueError(f"An int32 space needs its number of classes, got classes={self.classes}; pass classes=n.")

    @property
    def discrete(self) -> bool:
        return self.classes > 0

    @property
    def is_image(self) -> bool:
        return self.dtype == np.uint8 and len(self.shape) == 3

    @property
    def width(self) -> int:
        """Features this key contributes to a concatenated vector (one-hot for a discrete one)."""
        return int(np.prod(self.shape, dtype=int)) * (self.classes or 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.dtype.name, self.shape, self.classes))

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"dtype": self.dtype.name, "shape": list(self.shape), "classes": self.classes}
        if not self.discrete and not self.is_image:
            out |= {side: np.asarray(getattr(self, side), np.float64).tolist() for side in ("low", "high")}
        return out | ({"native": dict(self.native)} if self.native else {})

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Space":
        bounds = {side: np.asarray(fields[side], np.float32) for side in ("low", "high") if side in fields}
        shape, classes = tuple(fields["shape"]), int(fields["classes"])
        return cls(dtype=np.dtype(fields["dtype"]), shape=shape, classes=classes, native=fields.get("native"), **bounds)


Spaces = dict[str, Space]
