"""Minari datasets: episodes of Gymnasium environments."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from gymnasium import spaces

from learner.datasets.dataset import Clip, Example, UnreadableError, require_examples
from learner.datasets.kept import Kept
from learner.datasets.keys import Keys, cut, example, fields_of
from learner.datasets.view import View
from replay.counted import counted
from replay.step import Rows

DATA = "data"  # Minari expects the files of dataset X in X/data
ACTION = "action"


def is_minari(path: Path) -> bool:
    """Whether this is a Minari dataset: its folder, the `data` folder in it, or its HDF5 file."""
    return path.suffix == ".hdf5" or any((path / part / "metadata.json").is_file() for part in ("", DATA))


def require_minari() -> ModuleType:
    """The package. Raises ValueError saying how to install it if it is missing."""
    try:
        import h5py  # noqa: F401
        import minari
    except ImportError as error:
        raise ValueError(
            f"Minari datasets need the package minari, which is missing ({error}): pip install 'minari[hdf5]', or "
            "pip install 'nexus-worlds[minari]'."
        ) from error
    return minari


def open_minari(path: Path) -> Any:
    """The `minari.MinariDataset` at `path`. ValueError: it cannot be read, or the package is missing."""
    try:
        return require_minari().MinariDataset(data_folder(path))
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise ValueError(f"{path} cannot be read as a Minari dataset: {error}") from error


def data_folder(path: Path) -> Path:
    """The folder with the files of a dataset."""
    if path.suffix == ".hdf5":
        return path.parent
    return path if (path / "metadata.json").is_file() else path / DATA


class Minari:
    """One clip of each episode per pass, at a random place; actions are as the environment takes them.

    Keys are those of a Dict, `a/b` for one in another; `image` or `vector` for an observation that is none; `action`,
    or `action/...`. ValueError: the dataset cannot be read, a key is missing, or the package is."""

    live = False

    def __init__(self, where: Path, clip: Clip, view: View, keys: Keys | None = None) -> None:
        self.where, self.clip, self.view, self._dataset = where, clip, view, open_minari(where)
        self.numbers: list[int] = self._dataset.episode_indices.tolist()
        require_examples(self.numbers, "episodes", where, "record some first")
        observation, action = self._spaces = (self._dataset.observation_space, self._dataset.action_space)
        leaves = [*_flat(observation, _blank(observation), ""), *_flat(action, _blank(action), ACTION)]
        self.classes = {key: classes for key, _, classes in leaves if classes}
        self.keys = (keys or Keys()).chosen(fields_of({key: value for key, value, _ in leaves}), str(where))
        self._kept = Kept()

    def __len__(self) -> int:
        return len(self.numbers)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        rows = self._kept.get(index, self._read)
        steps = len(rows["reward"]) + 1
        if steps < self.clip.span:
            raise UnreadableError(self._name(index), f"it has {steps} steps, a clip spans {self.clip.span}")
        first = int(rng.integers(steps - self.clip.span + 1))
        clip = cut(rows, self.keys, first, self.clip.frames, self.clip.stride)
        return example(clip, self.keys, self.view, rng, self.classes)

    def describe(self) -> str:
        frames = f", frames from {self.keys.frames!r}" if self.keys.frames else ""
        return f"{counted(len(self), 'episode')} of the Minari dataset {self.where}{frames}"

    def close(self) -> None:
        return None

    def _name(self, index: int) -> str:
        return f"{self.where}, episode {self.numbers[index]}"

    def _read(self, index: int) -> Rows:
        """Observations `[T + 1, ...]`, actions and rewards `[T, ...]`."""
        try:
            (stored,) = self._dataset.storage.get_episodes([self.numbers[index]])
            observation, action = self._spaces
            seen = {key: value for key, value, _ in _flat(observation, stored["observations"], "")}
            acted = {key: value for key, value, _ in _flat(action, stored["actions"], ACTION)}
            rows = seen | acted | {"reward": np.asarray(stored["rewards"], np.float32)}
        except (OSError, RuntimeError, ValueError, KeyError, AssertionError) as error:
            raise UnreadableError(self._name(index), str(error)) from error
        lengths = {key: len(value) + (key not in seen) for key, value in rows.items()}
        if len(set(lengths.values())) > 1:
            raise UnreadableError(self._name(index), f"its arrays do not have the same steps: {lengths}")
        return rows


def _flat(space: spaces.Space, value: Any, name: str) -> Iterator[tuple[str, np.ndarray, int]]:
    """(key, array `[T, ...]`, classes or 0) of each leaf of a space, each column of a MultiDiscrete by itself."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in parts:
            yield from _flat(part, value[key], f"{name}/{key}" if name else str(key))
        return
    array = np.asarray(value)
    name = name or ("image" if array.dtype == np.uint8 and array.ndim == 4 else "vector")
    if isinstance(space, spaces.Discrete):
        yield name, array - int(space.start), int(space.n)
    elif isinstance(space, spaces.MultiDiscrete):
        sizes = np.asarray(space.nvec).ravel()
        for column, (size, start) in enumerate(zip(sizes, np.asarray(space.start).ravel(), strict=True)):
            yield f"{name}/{column}", array.reshape(len(array), len(sizes))[:, column] - int(start), int(size)
    elif isinstance(space, spaces.Box | spaces.MultiBinary):
        yield name, array, 0  # other spaces, such as texts, are left out


def _blank(space: spaces.Space) -> Any:
    """One step of zeros, of the space's types."""
    if isinstance(space, spaces.Dict):
        return {key: _blank(part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_blank(part) for part in space.spaces)
    return np.zeros((1, *(space.shape or ())), space.dtype)
