"""Cheap checks of what an environment returns, made at every step of training, with errors that name the place."""

import math
import traceback
from collections.abc import Iterable
from typing import Any

import numpy as np

SLACK = 1e-5
SWITCH = "(environment.check_steps=false trains without these checks)"


class BrokenEnvironmentError(ValueError):
    """An environment broke its own declaration: `what` is wrong, `where`, and the `remedy`."""

    def __init__(self, what: str, where: str, remedy: str) -> None:
        super().__init__(f"{where}: {what}. {remedy}")
        self.what, self.where, self.remedy = what, where, remedy

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.what, self.where, self.remedy)  # it crosses processes


def raised(error: Exception, where: str = "") -> BrokenEnvironmentError:
    """What an environment raised by itself, with the line that did."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    line = f"{frame.filename}, line {frame.lineno}, in {frame.name}"
    return BrokenEnvironmentError(
        f"raised {type(error).__name__}: {error}",
        f"{where}, {line}" if where else line,
        "Correct that line, or the value it was given.",
    )


def with_slack(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds widened a little: rounding in an environment's float32 arithmetic does not count as leaving its space."""
    slack = SLACK * (1 + sum(np.where(np.isfinite(side), np.abs(side), 0) for side in (low, high)))
    return low - slack, high + slack


def require_array(
    value: Any,
    where: str,
    dtype: np.dtype,
    shape: tuple[int, ...],
    low: np.ndarray | float | None,
    high: np.ndarray | float | None,
) -> np.ndarray:
    """`value` if it is an array of this dtype and shape, finite and within the bounds (None: unbounded).

    Raises BrokenEnvironmentError otherwise. A dtype that converts without loss passes.
    """
    if not isinstance(value, np.ndarray | np.generic):
        raise BrokenEnvironmentError(
            f"wrong type: a {type(value).__name__}, the space declares a {dtype.name} array of shape {shape}",
            where,
            f"Return np.asarray(value, np.{dtype.name}).",
        )
    array = np.asarray(value)
    if array.dtype != dtype and not np.can_cast(array.dtype, dtype):
        raise BrokenEnvironmentError(
            f"wrong dtype: {array.dtype.name}, the space declares {dtype.name}",
            where,
            f"Return value.astype(np.{dtype.name}), or declare the space with dtype=np.{array.dtype.name} {SWITCH}.",
        )
    if array.shape != shape:
        raise BrokenEnvironmentError(
            f"wrong shape: {array.shape}, the space declares {shape}",
            where,
            f"Return an array of shape {shape}, or declare the space with shape={array.shape}.",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        index = _first(~np.isfinite(array))
        raise BrokenEnvironmentError(
            f"not finite: element {index} is {array[index]}",
            where,
            "Find the division, logarithm or overflow that made it.",
        )
    if (low is not None and np.any(array < low)) or (high is not None and np.any(array > high)):
        least, most = (-np.inf if low is None else low), (np.inf if high is None else high)
        index = _first((array < least) | (array > most))
        sides = ", ".join(f"{np.broadcast_to(side, shape)[index]:.4g}" for side in (least, most))
        raise BrokenEnvironmentError(
            f"outside its space: element {index} is {array[index]}, the space allows [{sides}]",
            where,
            f"Widen the space's low and high, or clip the value to them {SWITCH}.",
        )
    return array


def require_index(value: Any, where: str, start: int, count: int) -> int:
    """`value` as an int if it is an integer in [start, start + count); raises BrokenEnvironmentError otherwise."""
    integral = isinstance(value, int | np.integer) or (
        isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind in "iu"
    )
    if not integral or isinstance(value, bool):
        kind = value.dtype.name if isinstance(value, np.ndarray | np.generic) else type(value).__name__
        raise BrokenEnvironmentError(f"wrong dtype: {kind} {value!r}, the space is discrete", where, "Return an int.")
    if not start <= int(value) < start + count:
        raise BrokenEnvironmentError(
            f"outside its space: {value}, the space allows {start} to {start + count - 1}",
            where,
            "Declare the space with more values, or correct the value.",
        )
    return int(value)


def require_keys(value: Any, where: str, keys: Iterable[Any]) -> None:
    """Raise BrokenEnvironmentError unless `value` is a mapping with exactly these keys."""
    expected = set(keys)
    if not hasattr(value, "keys"):
        raise BrokenEnvironmentError(
            f"wrong type: a {type(value).__name__}, the space is a Dict", where, f"Return a dict of {sorted(expected)}."
        )
    if set(value.keys()) != expected:
        raise BrokenEnvironmentError(
            f"wrong keys: {sorted(value.keys())}, the space declares {sorted(expected)}",
            where,
            "Return exactly the declared keys.",
        )


def require_reward(value: Any, where: str) -> float:
    """`value` as a finite float; raises BrokenEnvironmentError otherwise."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if not isinstance(value, int | float | np.number | np.bool_):
        raise BrokenEnvironmentError(f"wrong reward: {value!r} is a {type(value).__name__}", where, "Return one float.")
    reward = float(value)
    if not math.isfinite(reward):
        raise BrokenEnvironmentError(
            f"wrong reward: {reward}, a reward must be finite",
            where,
            "Find the division, logarithm or overflow that made it.",
        )
    return reward


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])
