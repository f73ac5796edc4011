"""How much replay keeps and how it hands it out."""

import math
from dataclasses import dataclass

from replay.step import Schema


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """`capacity` counts steps (items) over all shards, `capacity_gb` bounds their memory in 1e9 bytes, 0 for no bound.

    `chunk_length` steps are stored side by side. `online` hands every stream's newest sequences out once before
    uniform draws. In local mode sampling and inserting keep the learner's train ratio up to `tolerance` sampled steps;
    0 leaves just the room that the largest block and batch need.
    """

    capacity: int = 5_000_000
    capacity_gb: float = 0.0
    chunk_length: int = 256
    shards: int = 2
    online: bool = True
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        for name, low in (("capacity", 1), ("chunk_length", 1), ("shards", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"replay.{name} is {getattr(self, name)}, allowed {low} or more; raise it.")
        for name in ("capacity_gb", "tolerance"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"replay.{name} is {getattr(self, name)}, allowed 0 or a positive number; 0 is off.")

    def estimate_gb(self, schema: Schema) -> float:
        """Gigabytes a full replay takes, over all shards."""
        steps = schema.estimate_gb(self.capacity)
        return min(steps, self.capacity_gb) if self.capacity_gb else steps
