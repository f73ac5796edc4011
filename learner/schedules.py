"""Schedules of learning rate, weight decay and averaging over the updates of a pretraining run. Torch-free."""

import math
from dataclasses import dataclass

KINDS = ("constant", "linear", "cosine", "warmup_stable_decay", "warmup_constant")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A number as a function of the update, counted from 1 in a run of a known number of updates."""

    kind: str = "constant"
    """`constant`: top; `linear`: from top to end; `cosine`: warm-up, then half a cosine from top to end;
    `warmup_stable_decay`: warm-up, top, then linear to end over the last `anneal` updates; `warmup_constant`: warm-up,
    then top."""
    top: float = 1e-3
    """The value after warm-up."""
    start: float = 0.0
    """The value before warm-up."""
    end: float = 0.0
    """The value at the end of the run."""
    warmup: int = 0
    """Updates of warm-up, linear from `start` to `top`; 0 for none."""
    anneal: int = 0
    """Last updates, in which `warmup_stable_decay` falls."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"schedule kind={self.kind!r} is not one of {', '.join(KINDS)}.")
        if self.warmup < 0 or self.anneal < 0:
            raise ValueError(f"schedule warmup={self.warmup} and anneal={self.anneal} must not be negative.")

    def at(self, update: int, updates: int) -> float:
        """The value of update number `update`, from 1, of a run of `updates`."""
        if self.kind == "constant":
            return self.top
        if self.kind == "linear":
            return _line(self.top, self.end, update / max(1, updates))
        if update < self.warmup:
            return _line(self.start, self.top, update / self.warmup)
        if self.kind == "cosine":
            share = min(1.0, (update - self.warmup) / max(1, updates - self.warmup))
            return self.end + (self.top - self.end) * 0.5 * (1 + math.cos(math.pi * share))
        falling = update - (updates - self.anneal)
        if self.kind == "warmup_constant" or falling < 0:
            return self.top
        return _line(self.top, self.end, min(1.0, falling / max(1, self.anneal)))


def _line(start: float, end: float, share: float) -> float:
    return start + share * (end - start)
