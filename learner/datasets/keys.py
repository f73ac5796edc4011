"""Which keys of recorded steps become frames, actions and states, and how. Legend: T frames, s stride."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from learner.datasets.dataset import Example
from learner.datasets.view import View
from replay.step import RESERVED, Field, Rows

REWARD, IMAGE = "reward", "image"
ACTIONS, REWARDS = ("action", "actions"), ("reward", "rewards")


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Names of recorded keys. Left empty: the only image or the one named `image`, `action` and `action/...`, and all
    vectors of floats."""

    frames: str = ""
    actions: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    conditions: bool = True
    """Whether actions and states are wanted too. Without them nothing has to be known of them."""

    def chosen(self, fields: Mapping[str, Field], where: str) -> "Keys":
        """The keys to use of those recorded, named in full. ValueError: one is missing, or which image is unclear."""
        named = [key for key in (self.frames, *self.actions, *self.states) if key]
        if missing := sorted(set(named) - set(fields)):
            raise ValueError(f"{where} has no {missing}; its keys are {described(fields)}.")
        free = {key: field for key, field in sorted(fields.items()) if key not in RESERVED and key not in named}
        actions = self.actions or tuple(key for key in free if key.split("/")[0] in ACTIONS)
        images = [key for key, field in free.items() if is_image(field)]
        images = [IMAGE] if IMAGE in images else images
        if not self.frames and len(images) > 1:
            raise ValueError(f"{where} has several images, {sorted(images)}; name the one to use (data.frames).")
        vectors = (k for k, field in free.items() if field.dtype.kind == "f" and len(field.shape) <= 1)
        states = self.states or tuple(key for key in vectors if key not in (*actions, *REWARDS))
        frames = self.frames or (images[0] if images else "")
        if frames and not is_image(fields[frames]):
            raise ValueError(f"{where}: {frames!r} is no image (uint8 [H W C]); its keys are {described(fields)}.")
        if not self.conditions:
            actions, states = (), ()
        return replace(self, frames=frames, actions=actions, states=states)


def fields_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Field]:
    """The fields of arrays `[T, ...]`; single values are none."""
    return {k: Field(dtype=value.dtype, shape=value.shape[1:]) for k, value in arrays.items() if value.ndim}


def is_image(field: Field) -> bool:
    """Whether a field holds pixels, `[H W]` or `[H W C]`."""
    return field.dtype == np.uint8 and (len(field.shape) == 2 or (len(field.shape) == 3 and field.shape[-1] <= 4))


def example(rows: Rows, keys: Keys, view: View, rng: np.random.Generator, classes: Mapping[str, int]) -> Example:
    """An example of a clip's rows: frames and states `[T ...]`, actions and rewards `[T-1 s ...]`. `classes` has the
    number of classes of discrete keys, which become one-hot."""
    out: Example = {}
    if keys.frames:
        frames = rows[keys.frames]
        out["frames"] = view(frames[..., None] if frames.ndim == 3 else frames, rng)
    if keys.actions:
        parts = [_vectors(rows[key], 2, key, classes) for key in keys.actions]
        actions = np.concatenate(parts, axis=2)
        out["actions"] = actions.reshape(len(actions), actions.shape[1] * actions.shape[2])
    if keys.states:
        out["states"] = np.concatenate([_vectors(rows[key], 1, key, classes) for key in keys.states], axis=1)
    if REWARD in rows:
        out["rewards"] = _vectors(rows[REWARD], 1, REWARD, {}).sum(1)
    return out


def cut(arrays: Rows, keys: Keys, first: int, frames: int, stride: int) -> Rows:
    """The rows of a clip from step `first` of a recording. Its actions and rewards either have a row per step (the
    action chosen after it, the reward that came with it) or a row between each two steps."""
    stop = first + (frames - 1) * stride
    named = [key for key in (keys.frames, *keys.states) if key]
    steps = len(arrays[named[0]]) if named else 0
    clip = {key: arrays[key][first : stop + 1 : stride] for key in named}
    rewards = [key for key in REWARDS if key in arrays]
    for key in (*keys.actions, *rewards):
        at = first + (key in rewards and len(arrays[key]) == steps)
        value = arrays[key][at : at + stop - first]
        clip[REWARD if key in rewards else key] = value.reshape(frames - 1, stride, *value.shape[1:])
    return clip


def require_classes(keys: Keys, fields: Mapping[str, Field], classes: Mapping[str, int], where: str) -> None:
    """ValueError: a discrete key whose number of classes is unknown."""
    for key in (*keys.actions, *keys.states):
        if fields[key].dtype.kind in "iu" and key not in classes:
            raise ValueError(
                f"{where}: {key!r} is discrete ({fields[key].dtype}), and how many classes it has is not recorded; "
                "name the run's logdir instead, or give the task (data.task)."
            )


def _vectors(value: np.ndarray, leading: int, key: str, classes: Mapping[str, int]) -> np.ndarray:
    """Float vectors, `leading` axes kept; one-hot for discrete keys."""
    if key in classes:
        value = value[..., None] == np.arange(classes[key])
    return value.reshape(*value.shape[:leading], int(np.prod(value.shape[leading:]))).astype(np.float32)


def described(fields: Mapping[str, Field]) -> str:
    """The names, types and shapes of recorded keys."""
    parts: Sequence[str] = [f"{key} {field.dtype} {list(field.shape)}" for key, field in sorted(fields.items())]
    return ", ".join(parts)
