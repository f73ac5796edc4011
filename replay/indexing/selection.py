"""Which items are drawn: a mixture of uniform, prioritised and recent ones, with the official fractions.

Follows `embodied/core/selectors.py` of the official program (danijar/dreamerv3 at e3f0224).
"""

import numpy as np


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
