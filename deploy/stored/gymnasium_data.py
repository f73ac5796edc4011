"""Converts whole episodes between our flat keys and Gymnasium's nested spaces and values. Legend: T steps.

Observations keep their keys (`a/b` becomes a Dict in a Dict). If the task's spaces are known, actions are those of the
environment itself: scaled to its bounds and nested as in its action space.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces as gym_spaces

from actors.envs import gymnasium_spaces
from actors.native_actions import affine, bounds, by_path
from replay.foreign_rows import convert
from replay.step import RESERVED, Field, Rows, Schema
from world_models.space import Space, Spaces

Tree = Any  # a value, or a dict or tuple of trees
_UNKNOWN = np.iinfo(np.int32).max  # classes, if only a schema is known


def guessed_spaces(schema: Schema) -> tuple[Spaces, Spaces]:
    """Spaces from a schema alone: bounds and classes are unknown; keys named `action` or `action/...` are actions."""
    groups: tuple[Spaces, Spaces] = {}, {}
    for key, field in schema.fields.items():
        if key not in RESERVED:
            classes = _UNKNOWN if field.dtype == np.int32 else 0
            groups[is_action(key)][key] = Space(dtype=field.dtype, shape=field.shape, classes=classes)
    return groups


def is_action(key: str) -> bool:
    """Whether a key is an action, judged by its name."""
    return key == "action" or key.startswith("action/")


def observation_space(spaces: Spaces) -> gym_spaces.Dict:
    """A Dict of our keys."""
    tree: dict[str, Any] = {}
    for key, space in spaces.items():
        _put(tree, key.split("/"), _gym_space(space))
    return _dict_space(tree)


def observation_tree(spaces: Spaces, rows: Rows) -> dict[str, Tree]:
    """Observations `[T, ...]` as `observation_space` nests them."""
    tree: dict[str, Any] = {}
    for key in spaces:
        _put(tree, key.split("/"), rows[key])
    return tree


def action_space(spaces: Spaces) -> gym_spaces.Space:
    """The environment's own action space, as far as `Space.native` describes it."""
    tree: dict[Any, Any] = {}
    for path, keys in by_path(spaces).items():
        _put(tree, (None, *path), _native_space([spaces[key] for key in keys]))
    return _space_of(tree[None])


def flat_rows(
    space: gym_spaces.Space, tree: Tree, schema: Schema, where: str, *, actions: bool, known: Spaces | None = None
) -> Rows:
    """Values `[T, ...]` of a Gymnasium space as rows of our keys, named and encoded as by the environment's adapter.
    Continuous actions are scaled to [-1, 1] by the bounds of the space, or those of `known` if it has none."""
    leaves = gymnasium_spaces.flatten(space, actions=actions, image_size=(0, 0))
    out: Rows = {}
    for leaf in leaves:
        value = tree
        for part in leaf.path:
            value = value[part]
        value = np.asarray(value)
        for number, (key, target) in enumerate(leaf.keys.items()):
            if key not in schema.fields:
                kind = "action" if actions else "observation"
                raise ValueError(
                    f"{where}: {kind} {key!r} ({value.dtype} {list(value.shape)}) is not among the keys of this "
                    f"replay: {sorted(schema.fields)}; it was made for another task."
                )
            out[key] = _flat(leaf, number, value, schema.fields[key], key, where)
            if actions and not target.discrete and out[key].dtype.kind == "f":
                if not np.isfinite(bounds(target)).any():
                    target = (known or {}).get(key, target)
                out[key] = _unscaled(target, out[key]).astype(out[key].dtype)
    return out


def _flat(
    leaf: gymnasium_spaces.Leaf, number: int, value: np.ndarray, field: Field, key: str, where: str
) -> np.ndarray:
    start = np.asarray(getattr(leaf.raw, "start", 0))
    if value.dtype == field.dtype and value.shape[1:] == field.shape and len(leaf.keys) == 1 and not start.any():
        return value
    if isinstance(leaf.raw, gym_spaces.Discrete | gym_spaces.MultiDiscrete):
        value = value - start
        if len(leaf.keys) > 1:
            value = value.reshape(len(value), -1)[:, number]
    elif leaf.keys[key].is_image and value.ndim in (3, 4):
        value = np.stack([gymnasium_spaces.encode([leaf], _nest(leaf.path, one), where, False)[key] for one in value])
    return convert(value, field, key, where)


def _nest(path: tuple[Any, ...], value: Any) -> Any:
    for part in reversed(path):
        value = {part: value}
    return value


def _unscaled(space: Space, value: np.ndarray) -> np.ndarray:
    center, half = affine(*bounds(space))
    return (value - center) / np.where(half == 0, 1, half)


def _native_space(parts: list[Space]) -> gym_spaces.Space:
    first = parts[0]
    native = first.native or {}
    if not first.discrete or "low" in native:
        shape, dtype = tuple(native.get("shape", first.shape)), np.dtype(native.get("dtype", "float32"))
        sides = [native["low"], native["high"]] if "low" in native else bounds(first)
        low, high = (np.asarray(side, dtype).reshape(shape) for side in sides)
        return _box(low, high, dtype)
    if first.classes == _UNKNOWN:
        return _gym_space(first)
    shape, start = tuple(native.get("shape", first.shape)), native.get("start", 0)
    if shape == ():
        return gym_spaces.Discrete(first.classes, start=int(start))
    if native.get("dtype") == "int8" and first.classes == 2:
        return gym_spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
    sizes = np.stack([np.full(part.shape, part.classes, np.int64) for part in parts]).reshape(shape)
    return gym_spaces.MultiDiscrete(sizes, start=np.broadcast_to(np.asarray(start, np.int64), shape).copy())


def _gym_space(space: Space) -> gym_spaces.Space:
    if space.dtype == np.bool_:
        return gym_spaces.MultiBinary(list(space.shape))
    if space.dtype == np.uint8 or space.classes == _UNKNOWN:
        top = 255 if space.dtype == np.uint8 else _UNKNOWN
        return _box(np.zeros(space.shape, space.dtype), np.full(space.shape, top, space.dtype), space.dtype)
    if not space.discrete:
        low, high = (side.astype(np.float32) for side in bounds(space))
        return _box(low, high, np.dtype(np.float32))
    if space.shape == ():
        return gym_spaces.Discrete(space.classes)
    return gym_spaces.MultiDiscrete(np.full(space.shape, space.classes, np.int64))


def _box(low: np.ndarray, high: np.ndarray, dtype: np.dtype) -> gym_spaces.Box:
    return gym_spaces.Box(low, high, low.shape, dtype=dtype.type)


def _put(tree: dict[Any, Any], path: Any, value: Any) -> None:
    *parents, last = path
    for part in parents:
        tree = tree.setdefault(part, {})
    tree[last] = value


def _dict_space(tree: Mapping[str, Any]) -> gym_spaces.Dict:
    return gym_spaces.Dict({k: _dict_space(v) if isinstance(v, dict) else v for k, v in tree.items()})


def _space_of(node: Any) -> gym_spaces.Space:
    if not isinstance(node, dict):
        return node
    children = {key: _space_of(child) for key, child in node.items()}
    if list(children) == list(range(len(children))):
        return gym_spaces.Tuple(tuple(children.values()))
    return gym_spaces.Dict(children)
