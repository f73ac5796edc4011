"""Gymnasium's nested spaces as flat dicts of `Space`, and values back and forth."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces as gym_spaces

from actors.faults import require_array, require_index, require_keys
from world_models.space import Space, Spaces

# Rounding in an environment's float32 arithmetic must not count as leaving its space.
SLACK = 1e-4


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One space without children: where it sits in the nested space, and the keys it becomes.

    `low` and `high` are the bounds to check against; None where every value of the dtype is inside.
    """

    path: tuple[Any, ...]
    raw: gym_spaces.Space
    keys: Spaces
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    @property
    def name(self) -> str:
        return "".join(f"[{part!r}]" for part in self.path)


def flatten(space: gym_spaces.Space, *, actions: bool, image_size: tuple[int, int]) -> list[Leaf]:
    """All leaves of a space. A lone space is called `action`, `image` (uint8 with rows, columns and channels) or `vector`;
    the children of Dict and Tuple spaces are called by their path, `a/b`. Raises ValueError for spaces without a fixed size."""
    return [_leaf(raw, path, actions, image_size) for path, raw in _walk(space, ())]


def _walk(space: gym_spaces.Space, path: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], gym_spaces.Space]]:
    if isinstance(space, gym_spaces.Dict):
        children = list(space.spaces.items())
    elif isinstance(space, gym_spaces.Tuple):
        children = list(enumerate(space.spaces))
    else:
        return [(path, space)]
    return [leaf for key, child in children for leaf in _walk(child, (*path, key))]


def _leaf(raw: gym_spaces.Space, path: tuple[Any, ...], actions: bool, image_size: tuple[int, int]) -> Leaf:
    name = "/".join(str(part) for part in path)
    if isinstance(raw, gym_spaces.Box) and not actions and _is_image(raw):
        height, width, channels = _image_shape(raw)
        size = (height, width) if image_size == (0, 0) else image_size
        whole = bool(np.all(raw.low == 0) and np.all(raw.high == 255))
        bounds = {} if whole else {"low": raw.low, "high": raw.high}
        return Leaf(path=path, raw=raw, keys={name or "image": Space(dtype=np.uint8, shape=(*size, channels))}, **bounds)
    name = name or ("action" if actions else "vector")
    if isinstance(raw, gym_spaces.Box):
        return _box(raw, path, name)
    if isinstance(raw, gym_spaces.Discrete):
        return Leaf(path=path, raw=raw, keys={name: Space(dtype=np.int32, shape=(), classes=int(raw.n))})
    if isinstance(raw, gym_spaces.MultiBinary):
        dtype = np.int32 if actions else np.bool_
        return Leaf(path=path, raw=raw, keys={name: Space(dtype=dtype, shape=raw.shape, classes=2)}, low=np.zeros(raw.shape), high=np.ones(raw.shape))
    if isinstance(raw, gym_spaces.MultiDiscrete):
        sizes = np.unique(raw.nvec)
        bounds = {"low": raw.start, "high": raw.start + raw.nvec - 1}
        if len(sizes) == 1:
            return Leaf(path=path, raw=raw, keys={name: Space(dtype=np.int32, shape=raw.shape, classes=int(sizes[0]))}, **bounds)
        keys = {f"{name}/{i}": Space(dtype=np.int32, shape=(), classes=int(n)) for i, n in enumerate(raw.nvec.flat)}
        return Leaf(path=path, raw=raw, keys=keys, **bounds)
    kind = "action" if actions else "observation"
    raise ValueError(
        f"The {kind} space {name!r} is a {type(raw).__name__}, whose values have no fixed size; use Box, Discrete, "
        "MultiDiscrete, MultiBinary, or Dict and Tuple of these."
    )


def _box(raw: gym_spaces.Box, path: tuple[Any, ...], name: str) -> Leaf:
    shape = raw.shape or (1,)
    low, high = (np.asarray(side, np.float64).reshape(shape) for side in (raw.low, raw.high))
    if raw.dtype == np.bool_:
        return Leaf(path=path, raw=raw, keys={name: Space(dtype=np.bool_, shape=shape)})
    space = Space(dtype=np.float32, shape=shape, low=low.astype(np.float32), high=high.astype(np.float32))
    slack = SLACK * (1 + np.abs(np.nan_to_num(low, posinf=0, neginf=0)) + np.abs(np.nan_to_num(high, posinf=0, neginf=0)))
    slack = slack if raw.dtype.kind == "f" else 0
    # Comparing costs more than all other checks together, so sides without any bound are left out.
    return Leaf(
        path=path,
        raw=raw,
        keys={name: space},
        low=(low - slack).reshape(raw.shape) if np.isfinite(low).any() else None,
        high=(high + slack).reshape(raw.shape) if np.isfinite(high).any() else None,
    )


def _is_image(raw: gym_spaces.Box) -> bool:
    if raw.dtype != np.uint8:
        return False
    channels = (1, 3, 4)
    return len(raw.shape) == 2 or (len(raw.shape) == 3 and (raw.shape[-1] in channels or raw.shape[0] in channels or raw.shape[-1] <= 16))


def _channels_first(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[-1] not in (1, 3, 4) and shape[0] in (1, 3, 4)


def _image_shape(raw: gym_spaces.Box) -> tuple[int, int, int]:
    if len(raw.shape) == 2:
        return (*raw.shape, 1)
    return (*raw.shape[1:], raw.shape[0]) if _channels_first(raw.shape) else raw.shape


def encode(leaves: list[Leaf], value: Any, where: str, check: bool) -> dict[str, np.ndarray]:
    """A raw observation as a flat dict of new arrays, checked against its space if `check`."""
    if check:
        _check_tree(leaves, value, where)
    out: dict[str, np.ndarray] = {}
    for leaf in leaves:
        part = value
        for key in leaf.path:
            part = part[key]
        out |= _encode_leaf(leaf, part, where + leaf.name if check else "", check)
    return out


def _check_tree(leaves: list[Leaf], value: Any, where: str) -> None:
    by_parent: dict[tuple[Any, ...], set[Any]] = {}
    for leaf in leaves:
        for depth, key in enumerate(leaf.path):
            by_parent.setdefault(leaf.path[:depth], set()).add(key)
    for parent, keys in by_parent.items():
        part = value
        for key in parent:
            part = part[key]
        if isinstance(part, tuple) and keys == set(range(len(part))):
            continue
        require_keys(part, where + "".join(f"[{key!r}]" for key in parent), keys)


def _encode_leaf(leaf: Leaf, value: Any, where: str, check: bool) -> dict[str, np.ndarray]:
    raw = leaf.raw
    if isinstance(raw, gym_spaces.Discrete):
        index = require_index(value, where, int(raw.start), int(raw.n)) if check else int(value)
        return {key: np.asarray(index - int(raw.start), np.int32) for key in leaf.keys}
    if check:
        require_array(value, where, raw.dtype, raw.shape, leaf.low, leaf.high)
    if isinstance(raw, gym_spaces.MultiDiscrete):
        index = (np.asarray(value) - raw.start).astype(np.int32)
        if len(leaf.keys) == 1:
            return {key: index for key in leaf.keys}
        return dict(zip(leaf.keys, (np.asarray(i, np.int32) for i in index.flat), strict=True))
    (key, space), = leaf.keys.items()
    if space.is_image:
        return {key: _image(np.asarray(value, np.uint8), raw.shape, space.shape)}
    return {key: np.array(value, space.dtype).reshape(space.shape)}


def _image(value: np.ndarray, raw_shape: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    image = value.reshape(*raw_shape, 1) if len(raw_shape) == 2 else value
    if _channels_first(raw_shape):
        image = np.moveaxis(image, 0, -1)
    if image.shape[:2] == shape[:2]:
        return np.array(image)
    return resize(image, shape[:2])


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H W C] resized to [h w C]: averaged where it shrinks, repeated where it grows."""
    from PIL import Image

    shrinks = image.shape[0] > size[0] or image.shape[1] > size[1]
    how = Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST
    channels = [Image.fromarray(np.ascontiguousarray(image[..., c])).resize((size[1], size[0]), how) for c in range(image.shape[2])]
    return np.stack([np.asarray(channel) for channel in channels], -1)


def decode(space: gym_spaces.Space, leaves: list[Leaf], action: dict[str, np.ndarray]) -> Any:
    """A flat dict action as the value the raw action space contains."""
    by_path = {leaf.path: leaf for leaf in leaves}

    def build(node: gym_spaces.Space, path: tuple[Any, ...]) -> Any:
        if isinstance(node, gym_spaces.Dict):
            return {key: build(child, (*path, key)) for key, child in node.spaces.items()}
        if isinstance(node, gym_spaces.Tuple):
            return tuple(build(child, (*path, i)) for i, child in enumerate(node.spaces))
        leaf = by_path[path]
        values = [np.asarray(action[key]) for key in leaf.keys]
        if isinstance(node, gym_spaces.Discrete):
            return node.dtype.type(values[0].item() + int(node.start))
        if isinstance(node, gym_spaces.MultiDiscrete):
            index = np.stack(values).reshape(node.shape) if len(values) > 1 else values[0]
            return (index + node.start).astype(node.dtype)
        if node.dtype.kind in "iu" and isinstance(node, gym_spaces.Box):
            return np.rint(values[0]).reshape(node.shape).astype(node.dtype)
        return values[0].reshape(node.shape).astype(node.dtype)

    return build(space, ())
