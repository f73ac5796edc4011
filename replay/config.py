"""How much replay keeps and how it hands it out."""

import math
from dataclasses import dataclass

from replay.step import Schema


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """`capacity` counts steps (items) over all shards, `capacity_gb` bounds their memory in 1e9 bytes, 0 for no bound.

    `chunk_length` steps are stored side by side. `online` hands every stream's newest sequences out once before
    uniform draws. `samples_per_insert` 0 leaves sampling and inserting uncoupled; otherwise the two may differ by
    `tolerance` sampled steps, once `min_size` items are there.
    """

    capacity: int = 5_000_000
    capacity_gb: float = 0.0
    chunk_length: int = 256
    shards: int = 2
    online: bool = True
    samples_per_insert: float = 0.0
    tolerance: float = 10_000.0
    min_size: int = 1
    sample_timeout: float = 300.0

    def __post_init__(self) -> None:
        for name, low in (("capacity", 1), ("chunk_length", 1), ("shards", 1), ("min_size", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"replay.{name} is {getattr(self, name)}, allowed {low} or more; raise it.")
        for name in ("capacity_gb", "samples_per_insert", "tolerance"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"replay.{name} is {getattr(self, name)}, allowed 0 or a positive number; 0 is off.")
        if not 0 < self.sample_timeout < math.inf:
            raise ValueError(f"replay.sample_timeout is {self.sample_timeout}, allowed is a finite time above 0 s.")

    def estimate_gb(self, schema: Schema) -> float:
        """Gigabytes a full replay takes, over all shards."""
        steps = schema.estimate_gb(self.capacity)
        return min(steps, self.capacity_gb) if self.capacity_gb else steps
