"""An open-loop report: truth, prediction, and the error by horizon. Torch-free.

Legend: B sequences, T time, C context steps.
"""

from dataclasses import dataclass

import numpy as np

from replay.step import Rows
from world_models.space import Spaces

HORIZONS = (1, 5, 15)
"""Steps after the context at which the error is reported, besides the last."""


@dataclass(frozen=True, kw_only=True)
class OpenLoopReport:
    """Truth and prediction per observation key and for `reward`, on the host."""

    updates: int
    """0: none, or it is not known how many."""
    context: int
    """C: steps that the model observed; it predicted the others."""
    space: Spaces
    truth: Rows
    """`[B T ...]`: images uint8, the others in their own units."""
    prediction: Rows
    """As `truth`."""
    error: Rows
    """`[B T]`: see `world_models.dreamer.open_loop.OpenLoop`."""
    still: Rows
    """`[B T]`: error of repeating the last context step."""
    valid: np.ndarray
    """`[B T]` bool: False from the step at which a new episode begins after the context."""

    def horizon(self, errors: np.ndarray) -> np.ndarray:
        """Mean of errors `[B T]` at each step after the context `[T-C]`; NaN where no sequence is valid."""
        weight = self.valid[:, self.context :]
        total = (errors[:, self.context :] * weight).sum(0, dtype=np.float64)
        return np.divide(total, weight.sum(0), out=np.full(len(total), np.nan), where=weight.any(0))

    def metrics(self) -> dict[str, float]:
        """`report/openloop_<key>`: mean error; `.../step_N` and `.../last`: error N steps after the context;
        `.../still`: mean error of repeating the last context step."""
        weight, out = self.valid[:, self.context :], {}
        if not weight.any():
            return {}
        for key, errors in self.error.items():
            name, curve = f"report/openloop_{key}", self.horizon(errors)
            out[name] = float(errors[:, self.context :][weight].mean(dtype=np.float64))
            out[f"{name}/still"] = float(self.still[key][:, self.context :][weight].mean(dtype=np.float64))
            at = {f"step_{step}": step - 1 for step in HORIZONS if step <= len(curve)} | {"last": -1}
            out |= {f"{name}/{label}": float(curve[step]) for label, step in at.items() if np.isfinite(curve[step])}
        return out
