"""Gymnasium's nested spaces as flat dicts of `Space`, and values back and forth."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium import spaces as gym_spaces

from actors.faults import require_array, require_index, require_keys, with_slack
from actors.native_actions import within
from actors.native_observations import CHANNELS, channels_first, encoded
from world_models.space import Space, Spaces

_LISTED = 1024  # values of a Discrete at most
FLOAT, INT, BYTE, BOOL = (np.dtype(kind) for kind in (np.float32, np.int32, np.uint8, np.bool_))


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One space without children: its path in the nested space, and the keys it maps to.

    `low` and `high` are the bounds to check against; None if every value of the dtype is allowed.
    """

    path: tuple[Any, ...]
    raw: gym_spaces.Space
    keys: Spaces
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    @property
    def name(self) -> str:
        return _name(self.path)

    @property
    def shape(self) -> tuple[int, ...]:
        assert self.raw.shape is not None, self.raw
        return self.raw.shape

    @property
    def dtype(self) -> np.dtype:
        assert self.raw.dtype is not None, self.raw
        return self.raw.dtype


def flatten(space: gym_spaces.Space, *, actions: bool, image_size: tuple[int, int]) -> list[Leaf]:
    """All leaves of a space.

    A single space is named `action`, `image` (uint8 rows, columns and channels) or `vector`; the children of Dict and
    Tuple spaces are named by their path, `a/b`. A space without elements gets no key. Raises ValueError for spaces
    without a fixed size, and for two spaces with the same name.
    """
    leaves = [_named(_leaf(raw, path, actions, image_size), actions) for path, raw in _walk(space, ())]
    taken: dict[str, Leaf] = {}
    for leaf in leaves:
        for key in leaf.keys:
            if key in taken:
                kind = "action" if actions else "observation"
                raise ValueError(
                    f"The {kind} spaces at {taken[key].name} and {leaf.name} would both be called {key!r}; rename "
                    "one of them in the environment."
                )
            taken[key] = leaf
    return leaves


def _named(leaf: Leaf, actions: bool) -> Leaf:
    """The leaf with `Space.native` filled in for its keys, and without keys that have no elements."""
    native: dict[str, Any] = {"path": list(leaf.path), "shape": list(leaf.shape), "dtype": leaf.dtype.name}
    native["start"] = np.asarray(getattr(leaf.raw, "start", 0)).tolist()
    if actions and isinstance(leaf.raw, gym_spaces.Box):
        native |= {"low": leaf.raw.low.tolist(), "high": leaf.raw.high.tolist()}
    several = len(leaf.keys) > 1
    keys = {
        key: replace(space, native=native | ({"index": i} if several else {}))
        for i, (key, space) in enumerate(leaf.keys.items())
        if space.width
    }
    return replace(leaf, keys=keys)


def _walk(space: gym_spaces.Space, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], gym_spaces.Space]]:
    children: list[tuple[Any, gym_spaces.Space]]
    if isinstance(space, gym_spaces.Dict):
        children = list(space.spaces.items())
    elif isinstance(space, gym_spaces.Tuple):
        children = list(enumerate(space.spaces))
    else:
        yield path, space
        return
    for key, child in children:
        yield from _walk(child, (*path, key))


def _leaf(raw: gym_spaces.Space, path: tuple[Any, ...], actions: bool, image_size: tuple[int, int]) -> Leaf:
    name = "/".join(str(part) for part in path)
    if isinstance(raw, gym_spaces.Box) and not actions and _is_image(raw):
        *own, channels = _rows_columns_channels(raw.shape)
        keys = {name or "image": Space(dtype=BYTE, shape=(*(image_size if any(image_size) else own), channels))}
        if np.all(raw.low == 0) and np.all(raw.high == 255):
            return Leaf(path=path, raw=raw, keys=keys)
        return Leaf(path=path, raw=raw, keys=keys, low=raw.low, high=raw.high)
    name = name or ("action" if actions else "vector")
    if isinstance(raw, gym_spaces.Box):
        return _box(raw, path, name)
    if isinstance(raw, gym_spaces.Discrete):
        return Leaf(path=path, raw=raw, keys={name: Space(dtype=INT, shape=(), classes=int(raw.n))})
    if isinstance(raw, gym_spaces.MultiBinary):
        keys = {name: Space(dtype=INT if actions else BOOL, shape=raw.shape, classes=2)}
        return Leaf(path=path, raw=raw, keys=keys, low=np.zeros(raw.shape), high=np.ones(raw.shape))
    if isinstance(raw, gym_spaces.MultiDiscrete):
        if len(sizes := np.unique(raw.nvec)) == 1:
            keys = {name: Space(dtype=INT, shape=raw.shape, classes=int(sizes[0]))}
        else:
            keys = {f"{name}/{i}": Space(dtype=INT, shape=(), classes=int(n)) for i, n in enumerate(raw.nvec.flat)}
        return Leaf(path=path, raw=raw, keys=keys, low=raw.start, high=raw.start + raw.nvec - 1)
    kind = "action" if actions else "observation"
    raise ValueError(
        f"The {kind} space {name!r} is a {type(raw).__name__}, whose values have no fixed size; use Box, Discrete, "
        "MultiDiscrete, MultiBinary, or Dict and Tuple of these."
    )


def _box(raw: gym_spaces.Box, path: tuple[Any, ...], name: str) -> Leaf:
    shape = raw.shape or (1,)
    if raw.dtype == np.bool_:
        return Leaf(path=path, raw=raw, keys={name: Space(dtype=BOOL, shape=shape)})
    low, high = np.asarray(raw.low, np.float64), np.asarray(raw.high, np.float64)
    least, most = with_slack(low, high) if raw.dtype.kind == "f" else (low, high)
    # Comparing costs more than all other checks together, so sides without any bound are skipped.
    return Leaf(
        path=path,
        raw=raw,
        keys={name: Space(dtype=FLOAT, shape=shape, low=_bound(low, shape), high=_bound(high, shape))},
        low=least if np.isfinite(low).any() else None,
        high=most if np.isfinite(high).any() else None,
    )


def _bound(side: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    with np.errstate(over="ignore"):  # a float64 bound beyond float32 counts as none
        return side.reshape(shape).astype(np.float32)


def _is_image(raw: gym_spaces.Box) -> bool:
    if raw.dtype != BYTE or len(raw.shape) not in (2, 3):
        return False
    return len(raw.shape) == 2 or raw.shape[0] in CHANNELS or raw.shape[-1] <= 16  # up to 16: stacked frames


def _rows_columns_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 2:
        return (*shape, 1)
    return (*shape[1:], shape[0]) if channels_first(shape) else shape


def encode(leaves: list[Leaf], value: Any, where: str, check: bool) -> dict[str, np.ndarray]:
    """A raw observation as a flat dict of new arrays, checked against its space if `check`."""
    if check:
        _require_tree(leaves, value, where)
    out: dict[str, np.ndarray] = {}
    for leaf in leaves:
        part = value
        for key in leaf.path:
            part = part[key]
        if check:
            part = _require_leaf(leaf, part, where + leaf.name)
        out |= _encode_leaf(leaf, part)
    return out


def _require_tree(leaves: list[Leaf], value: Any, where: str) -> None:
    by_parent: dict[tuple[Any, ...], set[Any]] = {}
    for leaf in leaves:
        for depth, key in enumerate(leaf.path):
            by_parent.setdefault(leaf.path[:depth], set()).add(key)
    for parent, keys in by_parent.items():
        part = value
        for key in parent:
            part = part[key]
        if not (isinstance(part, tuple | list) and keys == set(range(len(part)))):
            require_keys(part, where + _name(parent), keys)


def _name(path: tuple[Any, ...]) -> str:
    return "".join(f"[{part!r}]" for part in path)


def _require_leaf(leaf: Leaf, value: Any, where: str) -> Any:
    if isinstance(leaf.raw, gym_spaces.Discrete):
        return require_index(value, where, int(leaf.raw.start), int(leaf.raw.n))
    return require_array(value, where, leaf.dtype, leaf.shape, leaf.low, leaf.high)


def _encode_leaf(leaf: Leaf, value: Any) -> dict[str, np.ndarray]:
    return {key: encoded(space, value) for key, space in leaf.keys.items()}


class Plain:
    """Names observations of a space without parts: floats, or images in their own size. It checks their form and leaves
    their values to `encode`, whose slow checks are for the few that are doubtful."""

    def __init__(self, leaf: Leaf) -> None:
        (self.key,), self.dtype, self.shape = leaf.keys, leaf.dtype, leaf.shape

    @classmethod
    def of(cls, leaves: list[Leaf]) -> "Plain | None":
        """None for any other space."""
        if len(leaves) != 1 or leaves[0].path or len(leaves[0].keys) != 1:
            return None
        leaf, (space,) = leaves[0], leaves[0].keys.values()
        floats = isinstance(leaf.raw, gym_spaces.Box) and leaf.dtype.kind == "f" and space.dtype == FLOAT
        image = space.is_image and leaf.low is None and leaf.shape == space.shape
        return cls(leaf) if floats or image else None

    def __call__(self, value: Any) -> dict[str, np.ndarray] | None:
        """A copy of the observation, whose array several environments may share; None if its form is not that of the
        space."""
        return {self.key: value.copy()} if self.fits(value) else None

    def fits(self, value: Any) -> bool:
        """Whether an observation has the form of the space."""
        return type(value) is np.ndarray and value.dtype == self.dtype and value.shape == self.shape


def decoder(space: gym_spaces.Space, leaves: list[Leaf]) -> Callable[[dict[str, np.ndarray]], Any]:
    """`decode` for this space, as fast as its kind allows."""
    if isinstance(space, gym_spaces.Discrete) and len(leaves[0].keys) == 1:
        (key,), kind, start = leaves[0].keys, leaves[0].dtype.type, int(space.start)
        return lambda action: kind(int(action[key]) + start)
    if (
        isinstance(space, gym_spaces.Box)
        and leaves[0].keys
        and space.shape
        and leaves[0].dtype.kind == "f"
        and space.is_bounded()
    ):
        (key,), shape, dtype, low, high = leaves[0].keys, leaves[0].shape, leaves[0].dtype, space.low, space.high
        return lambda action: np.minimum(np.maximum(action[key].reshape(shape).astype(dtype), low), high)
    return lambda action: decode(space, leaves, action)


def row_decoder(space: gym_spaces.Space, leaves: list[Leaf]) -> Callable[[Mapping[str, np.ndarray]], Sequence[Any]]:
    """`decode` of actions `[N, ...]` for this space, as fast as its kind allows."""
    if isinstance(space, gym_spaces.Discrete) and len(leaves[0].keys) == 1:
        (key,), kind, start, count = leaves[0].keys, leaves[0].dtype.type, int(space.start), int(space.n)
        if count <= _LISTED:  # to look up a number takes half as long as to make it
            listed = np.empty(count, object)
            listed[:] = [kind(start + k) for k in range(count)]
            # The action of a last row is ignored, whatever it is.
            return lambda actions: listed.take(actions[key], mode="clip").tolist()
        return lambda actions: list(actions[key].astype(kind) + start if start else actions[key].astype(kind))
    if (
        isinstance(space, gym_spaces.Box)
        and leaves[0].keys
        and space.shape
        and leaves[0].dtype.kind == "f"
        and space.is_bounded()
    ):
        (key,), shape, dtype, low, high = leaves[0].keys, leaves[0].shape, leaves[0].dtype, space.low, space.high
        return lambda actions: list(np.minimum(np.maximum(actions[key].reshape(-1, *shape).astype(dtype), low), high))
    one = decoder(space, leaves)
    return lambda actions: [
        one({key: value[i] for key, value in actions.items()}) for i in range(len(next(iter(actions.values()))))
    ]


def decode(space: gym_spaces.Space, leaves: list[Leaf], action: dict[str, np.ndarray]) -> Any:
    """A flat dict action as the value that the raw action space contains."""
    by_path = {leaf.path: leaf for leaf in leaves}

    def build(node: gym_spaces.Space, path: tuple[Any, ...]) -> Any:
        if isinstance(node, gym_spaces.Dict):
            return {key: build(child, (*path, key)) for key, child in node.spaces.items()}
        if isinstance(node, gym_spaces.Tuple):
            return tuple(build(child, (*path, i)) for i, child in enumerate(node.spaces))
        leaf = by_path[path]
        if not leaf.keys:
            return np.zeros(leaf.shape, leaf.dtype)
        values = np.stack([np.asarray(action[key]) for key in leaf.keys]).reshape(leaf.shape)
        if isinstance(node, gym_spaces.Box):
            return within(values, leaf.dtype, node.low, node.high)
        if isinstance(node, gym_spaces.Discrete):
            return leaf.dtype.type(values + node.start)
        return (values + getattr(node, "start", 0)).astype(leaf.dtype)

    return build(space, ())
