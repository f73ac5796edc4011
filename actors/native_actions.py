"""From the agent's actions, flat and in [-1, 1], to those that the environment's own `step` takes. Torch-free."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from world_models.space import Space, Spaces


def affine(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`center` and `half`: center + half * action maps [-1, 1] to [low, high]; a dimension that lacks a bound stays."""
    bounded = np.isfinite(low) & np.isfinite(high)
    least, most = np.where(bounded, low, 0), np.where(bounded, high, 0)
    return np.where(bounded, (least + most) / 2, 0.0), np.where(bounded, (most - least) / 2, 1.0)


def native_action(spaces: Spaces, action: Mapping[str, np.ndarray]) -> Any:
    """One action of the agent, per key of `spaces`, as `Space.native` describes it: scaled, clipped, counted from the
    environment's first value, nested."""
    parts: dict[tuple[Any, ...], list[str]] = {}
    for key, space in spaces.items():
        path = (space.native or {}).get("path", [] if len(spaces) == 1 else [key])
        parts.setdefault(tuple(path), []).append(key)
    out: dict[Any, Any] = {}
    for path, keys in parts.items():
        values = [_value(spaces[key], action[key]) for key in keys]
        native = spaces[keys[0]].native or {}
        array = np.stack(values).reshape(native.get("shape", spaces[keys[0]].shape)) + native.get("start", 0)
        array = array.astype(native.get("dtype", spaces[keys[0]].dtype))
        node = out
        for part in (None, *path)[:-1]:
            node = node.setdefault(part, {})
        node[(None, *path)[-1]] = array[()] if spaces[keys[0]].discrete and array.shape == () else array
    return _tuples(out[None])


def _value(space: Space, value: np.ndarray) -> np.ndarray:
    if space.discrete:
        return value
    native: Mapping[str, Any] = space.native or {}
    low, high = (np.asarray(native.get(side, getattr(space, side)), np.float64) for side in ("low", "high"))
    center, half = affine(low, high)
    scaled = np.clip(center + half * value, low, high)
    return np.rint(scaled) if np.dtype(native.get("dtype", "float32")).kind in "iu" else scaled


def _tuples(node: Any) -> Any:
    """Children numbered from 0 are those of a Tuple."""
    if not isinstance(node, dict):
        return node
    children = {key: _tuples(child) for key, child in node.items()}
    return tuple(children.values()) if list(children) == list(range(len(children))) else children
