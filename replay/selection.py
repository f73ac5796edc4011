"""Which items are drawn: a mixture of uniform, prioritised and recent ones, with the official fractions.

Follows `embodied/core/selectors.py` of the official program (danijar/dreamerv3 at e3f0224).
"""

import math
from dataclasses import dataclass

import numpy as np

PRIORITY_BYTES = 21  # a step: float32, and float64 in two trees with 1/63 above their leaves
RECENCY_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """Fractions of draws by each way to choose an item; sequences of the online queue come before all of them."""

    uniform: float | None = None
    """Every item alike. None: what the other fractions leave."""
    priority: float = 0.0
    """By priority: the world model's loss at the item's steps when it was last trained on."""
    recency: float = 0.0
    """By age, counted in items: proportional to (1 + age) ** -recency_exponent."""
    exponent: float = 0.8
    """Priorities are raised to this power; 0 makes all known ones alike."""
    maxfrac: float = 0.5
    """An item's priority is maxfrac * max + (1 - maxfrac) * mean of those of its steps."""
    initial: float = math.inf
    """Priority of a step that has none yet; items with infinite ones come first, each as likely as the other."""
    zero_on_sample: bool = True
    """Drawing an item by priority sets its steps' priorities to 0, until the learner gives new ones."""
    recency_exponent: float = 1.0

    def __post_init__(self) -> None:
        for name in ("uniform", "priority", "recency", "maxfrac"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"replay.selection.{name} is {value}, allowed 0 to 1; it is a fraction.")
        for name in ("exponent", "recency_exponent"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"replay.selection.{name} is {value}, allowed 0 or a positive number; 0 is off.")
        if not self.initial >= 0:
            raise ValueError(
                f"replay.selection.initial is {self.initial}, allowed 0 or more; inf draws new items first."
            )
        if abs(sum(self.fractions) - 1) > 1e-6 or self.fractions[0] < 0:
            raise ValueError(
                f"replay.selection: uniform {self.uniform}, priority {self.priority} and recency {self.recency} must "
                "add up to 1; leave uniform out to let it have the rest."
            )

    @property
    def fractions(self) -> tuple[float, float, float]:
        """Of draws: uniform, by priority, by recency."""
        rest = 1 - self.priority - self.recency
        return rest if self.uniform is None else self.uniform, self.priority, self.recency

    @property
    def step_bytes(self) -> int:
        """Memory that choosing takes for each step a store has room for."""
        return (PRIORITY_BYTES if self.priority else 0) + (RECENCY_BYTES if self.recency else 0)


class Recency:
    """Ages with p(age) proportional to (1 + age) ** -exponent, exact for every number of items."""

    def __init__(self, exponent: float) -> None:
        self._exponent = exponent
        self._mass = np.empty(0)  # of the ages up to each one; it grows with the items

    def draw(self, uniform: np.ndarray, items: int) -> np.ndarray:
        """Ages `[n]` below `items` for numbers `[n]` in [0, 1)."""
        if items > len(self._mass):
            ages = np.arange(1.0, max(1024, items + items // 4) + 1)
            self._mass = np.cumsum(ages**-self._exponent)
        # The official selector draws over the full capacity and, while fewer items are there, squeezes the ages: at
        # 5,000 of 5,000,000 items every second draw would be the very newest. Here the law holds for the items present.
        mass = self._mass[:items]
        return np.minimum(np.searchsorted(mass, uniform * mass[-1], side="right"), items - 1)
