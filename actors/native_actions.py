"""Converts the agent's actions, flat and in [-1, 1], to those that the environment's own `step` takes. Torch-free.

Legend: T actions.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from world_models.space import Space, Spaces


def affine(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`center` and `half`: center + half * action maps [-1, 1] to [low, high]; identity if a bound is missing."""
    bounded = np.isfinite(low) & np.isfinite(high)
    least, most = np.where(bounded, low, 0), np.where(bounded, high, 0)
    # Halved first: the sum and the difference of the largest bounds overflow float64.
    return np.where(bounded, most / 2 + least / 2, 0.0), np.where(bounded, most / 2 - least / 2, 1.0)


def bounds(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """The environment's own bounds in float64, in the shape of the space; infinite where there are none."""
    native: Mapping[str, Any] = space.native or {}
    low, high = (np.asarray(native.get(side, getattr(space, side)), np.float64) for side in ("low", "high"))
    return tuple(side.reshape(space.shape) if side.ndim else np.full(space.shape, side) for side in (low, high))  # type: ignore[return-value]


class Scale:
    """Maps actions from [-1, 1] to bounds `[*shape]`; a dimension that lacks one is only clipped to the other."""

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        self.low, self.high = low, high
        self._center, self._half = affine(low, high)
        self._bounded = np.isfinite(low) & np.isfinite(high)
        ends = (self._center - self._half, low), (self._center + self._half, high)
        self._exact = bool(self._bounded.all()) and all(np.array_equal(end, bound) for end, bound in ends)

    def __call__(self, action: np.ndarray) -> np.ndarray:
        """Actions `[..., *shape]`, clipped and mapped, in float64."""
        value = np.asarray(action, np.float64)
        clipped = np.minimum(np.maximum(value, -1), 1)
        if self._exact:  # so is everything between the ends, since rounding keeps the order
            return np.asarray(self._center + self._half * clipped)
        value = np.where(self._bounded, clipped, value)
        inside = np.minimum(np.maximum(self._center + self._half * value, self.low), self.high)
        # The bounds themselves are reached exactly.
        inside = np.where(self._bounded & (value == -1), self.low, inside)
        return np.where(self._bounded & (value == 1), self.high, inside)


def within(values: np.ndarray, dtype: np.dtype, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """float64 values `[..., *shape]` rounded to `dtype`, within bounds `[*shape]` of that dtype: rounding must not
    leave them, and the largest integers have no exact float64."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(np.clip(values.astype(dtype), low, high))
    above, below = values >= high.astype(np.float64), values <= low.astype(np.float64)
    inside = np.where(above | below, 0, np.rint(values)).astype(dtype)
    return np.where(above, high, np.where(below, low, np.maximum(np.minimum(inside, high), low))).astype(dtype)


def native_values(spaces: Sequence[Space], values: Sequence[np.ndarray]) -> np.ndarray:
    """The agent's actions `[T, ...]` for the keys of one space of the environment, as values of that space."""
    first, (count, *_) = spaces[0], values[0].shape
    native: Mapping[str, Any] = first.native or {}
    shape, dtype = tuple(native.get("shape", first.shape)), np.dtype(native.get("dtype", first.dtype))
    if not first.discrete:
        values = [Scale(*bounds(space))(value) for space, value in zip(spaces, values, strict=True)]
    array = np.stack(values, 1).reshape(count, *shape)
    if "low" in native:
        return within(array, dtype, *(np.asarray(native[side], dtype).reshape(shape) for side in ("low", "high")))
    return (array + np.asarray(native.get("start", 0))).astype(dtype)


def native_action(spaces: Spaces, action: Mapping[str, np.ndarray]) -> Any:
    """One action of the agent, per key of `spaces`, as `Space.native` describes it: scaled, clipped, offset by the
    environment's first value, nested."""
    rows = {key: np.asarray(value)[None] for key, value in action.items()}
    return _nested(spaces, lambda keys: _single(spaces[keys[0]], _values(spaces, rows, keys)[0]))


def native_actions(spaces: Spaces, rows: Mapping[str, np.ndarray]) -> Any:
    """`native_action` of actions `[T, ...]` at once."""
    return _nested(spaces, lambda keys: _values(spaces, rows, keys))


def _values(spaces: Spaces, rows: Mapping[str, np.ndarray], keys: list[str]) -> np.ndarray:
    return native_values([spaces[key] for key in keys], [rows[key] for key in keys])


def _single(space: Space, value: Any) -> Any:
    """A Discrete takes a number, a Box without axes an array."""
    return value if space.discrete else np.asarray(value)


def _nested(spaces: Spaces, value: Callable[[list[str]], Any]) -> Any:
    tree: dict[Any, Any] = {}
    for path, keys in by_path(spaces).items():
        node = tree
        for part in (None, *path)[:-1]:
            node = node.setdefault(part, {})
        node[(None, *path)[-1]] = value(keys)
    return _tuples(tree.get(None, {}))


def by_path(spaces: Spaces) -> dict[tuple[Any, ...], list[str]]:
    """The paths of the environment's own spaces, and the keys of each."""
    parts: dict[tuple[Any, ...], list[str]] = {}
    for key, space in spaces.items():
        path = (space.native or {}).get("path", [] if len(spaces) == 1 else key.split("/"))
        parts.setdefault(tuple(path), []).append(key)
    return parts


def _tuples(node: Any) -> Any:
    """`node` with every dict whose keys count from 0 as a tuple."""
    if not isinstance(node, dict):
        return node
    children = {key: _tuples(child) for key, child in node.items()}
    return tuple(children.values()) if list(children) == list(range(len(children))) else children
