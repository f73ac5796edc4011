"""Converts an environment's own observation to the agent's, in training and for a loaded policy. Torch-free."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from replay.counted import counted
from world_models.space import Space, Spaces

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA


def encoded(space: Space, value: Any) -> np.ndarray:
    """The environment's own value, described by `Space.native`, as a new array of `space`: classes from 0, channels
    last, resized."""
    native: Mapping[str, Any] = space.native or {}
    if space.is_image:
        return image(np.asarray(value, np.uint8), space.shape)
    if space.dtype == np.int32:
        indices = np.asarray(value) - np.asarray(native.get("start", 0))
        value = indices.flat[native["index"]] if "index" in native else indices
    return np.array(value, space.dtype).reshape(space.shape)


def flat_observation(spaces: Spaces, observation: Any) -> dict[str, np.ndarray]:
    """An environment's own observation (or a dict of our keys) as new arrays per key. Raises ValueError naming what is
    missing or does not fit."""
    known = _flat(observation) if isinstance(observation, Mapping) else {}
    out: dict[str, np.ndarray] = {}
    missing = []
    for key, space in spaces.items():
        try:
            value = known[key] if key in known else _part(observation, (space.native or {}).get("path", []), spaces)
        except LookupError:
            missing.append(key)
            continue
        out[key] = _fitting(key, space, value)
    if missing:
        raise ValueError(f"The observation lacks the keys {missing}; this policy needs {sorted(spaces)}.")
    return out


def _part(observation: Any, path: Sequence[Any], spaces: Spaces) -> Any:
    if not path and (len(spaces) > 1 and all(not space.native for space in spaces.values())):
        raise LookupError  # from before paths were stored: only the keys identify the parts
    for part in path:
        if not isinstance(observation, Mapping | tuple | list):
            raise LookupError
        observation = observation[part]
    if isinstance(observation, Mapping):
        raise LookupError
    return observation


def _fitting(key: str, space: Space, value: Any) -> np.ndarray:
    native: Mapping[str, Any] = space.native or {}
    own = tuple(native.get("shape", space.shape))
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise ValueError
    except ValueError:
        raise ValueError(f"Observation {key!r} is not an array of numbers: {value!r:.100}.") from None
    if array.shape == space.shape and "index" not in native and array.shape != own:
        return array.astype(space.dtype)  # already in our form
    if array.shape != own and (space.is_image or array.size != np.prod(own, dtype=int)):
        raise ValueError(f"Observation {key!r} has shape {array.shape}, not {own}.")
    out = encoded(space, array.reshape(own))
    if space.dtype == np.int32 and not ((out >= 0) & (out < space.classes)).all():
        start = np.broadcast_to(native.get("start", 0), own)
        first = start.flat[native["index"]] if "index" in native else start
        raise ValueError(
            f"Observation {key!r} is {array.tolist()}; its {counted(space.classes, 'value')} "
            f"begin{'s' * (space.classes == 1)} at {first.tolist()}."
        )
    if out.dtype.kind == "f" and not np.isfinite(out).all():
        raise ValueError(f"Observation {key!r} is not finite in float32: {array.tolist()!r:.100}.")
    return out


def _flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out |= _flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether an image of this shape has its channels first."""
    return len(shape) == 3 and shape[-1] not in CHANNELS and shape[0] in CHANNELS


def image(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 `[H W]`, `[H W C]` or `[C H W]` as a new array of `shape`, channels last, resized if necessary."""
    if value.ndim == 2:
        value = value[..., None]
    elif channels_first(value.shape):
        value = np.moveaxis(value, 0, -1)
    return np.array(value, order="C") if value.shape == shape else resize(value, shape[0], shape[1])


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H W C] as [height width C]: pixels are averaged when shrinking, repeated when growing."""
    from PIL import Image

    shrinks = image.shape[0] > height or image.shape[1] > width
    how = Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST
    channels = (Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2]))
    return np.stack([np.asarray(channel.resize((width, height), how)) for channel in channels], -1)
