"""Opens datasets of images and clips by the names that users give."""

import os
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from deploy.stored.episode_files import INDEX, files_of, read_index
from deploy.stored.known_spaces import known_spaces, recorded_spaces
from deploy.stored.sources import holds_replay, open_sources
from learner.datasets.dataset import Clip, Dataset
from learner.datasets.folder import files_in
from learner.datasets.generated import GENERATED
from learner.datasets.generated.held import Held
from learner.datasets.images import SUFFIXES as PICTURES
from learner.datasets.keys import Keys
from learner.datasets.lerobot import INFO
from learner.datasets.minari import is_minari
from learner.datasets.videos import SUFFIXES as VIDEOS
from learner.datasets.view import View
from replay.reading.reader import Reader
from replay.redis_url import URLS
from replay.store import ShardDownError
from world_models.space import Spaces

_GENERATED = re.compile(r"generated:(?P<name>\w+)(:(?P<seed>\d+))?")
SPLITS = ("train", "test")
"""Of generated datasets."""
_CLIPS = {
    "block_world": {"train": 3000, "test": 1000},
    "goal_world": {"train": 3000, "test": 1000},
    "point_reach": {"train": 2000, "test": 500},
    "two_room": {"train": 2000, "test": 500},
}
"""Those that an environment generates."""
_ROOMS = "fresh_two_room"
_NAMES = (*GENERATED, *_CLIPS, _ROOMS)
KINDS = (
    "a folder of pictures, of videos or of .npz files, a LeRobot or Minari dataset, the logdir of a run, a disk "
    f"replay, Redis URLs, or {', '.join(f'generated:{name}' for name in _NAMES)}"
)
"""What can be named."""


def open_dataset(
    where: str, clip: Clip | None = None, view: View | None = None, keys: Keys | None = None, split: str = "train",
    task: str = "", prefix: str = "", note: Callable[[str], None] = print,
) -> Dataset:  # fmt: skip
    """The dataset that `where` names; `generated:NAME:SEED` gives another seed than 0.

    `split` is for generated datasets; `task` says which keys are actions, and how many classes they have, if the source
    does not; `prefix` is that of a replay on Redis. `note` is told of shards that are down or damaged. ValueError:
    there is nothing to read, it is unclear what is to be read, it does not fit the clip or the keys, or a package is
    missing.
    """
    clip, view = clip or Clip(), view or View()
    if where.startswith("generated:"):
        return _generated(where, clip, view, split, keys is None or keys.conditions)
    if split != "train":
        raise ValueError(
            f"Only generated datasets have a split, {where} has none: give the folder of its {split} part."
        )
    if where.startswith(URLS):
        return _replay(where, clip, view, keys, task, prefix, note)
    path = Path(where)
    if not path.exists():
        raise ValueError(f"There is no file or folder {where}. Name {KINDS}.")
    if (path / INFO).is_file():
        from learner.datasets.lerobot import LeRobot

        return LeRobot(path, clip, view, keys)
    if is_minari(path):
        from learner.datasets.minari import Minari

        return Minari(path, clip, view, keys)
    exported = path.is_dir() and (path / INDEX).exists() and any(path.glob("*.npz"))
    if path.is_dir() and not exported and holds_replay(path):
        return _replay(where, clip, view, keys, task, prefix, note)
    return _files(path, clip, view, keys, task)


def _files(path: Path, clip: Clip, view: View, keys: Keys | None, task: str) -> Dataset:
    kinds = dict.fromkeys(PICTURES, "pictures") | dict.fromkeys(VIDEOS, "videos") | {".npz": ".npz files"}
    found = Counter(kinds[os.path.splitext(file)[1].lower()] for file in files_in(path, tuple(kinds)))
    if len(found) != 1:
        what = " and ".join(f"{count:,} {name}" for name, count in found.items()) or "nothing that can be read"
        raise ValueError(f"{path} holds {what}. Name {'one kind, in a folder of its own' if found else KINDS}.")
    if "pictures" in found and clip.frames > 1:
        from learner.datasets.image_sequences import ImageSequences

        return ImageSequences(path, clip, view)
    if "pictures" in found:
        from learner.datasets.images import Images

        return Images(path, clip, view)
    if "videos" in found:
        from learner.datasets.videos import Videos

        return Videos(path, clip, view)
    from learner.datasets.arrays import Arrays, Part

    index = None
    with suppress(ValueError):  # another program's
        index = read_index(path)
    known = _known(keys, recorded_spaces(index or {}) or known_spaces([], task)[1])
    listed = files_of(index) if index else []
    parts = [[Part(str(path / Path(one["file"]).name), one.get("length", 0)) for one in files] for files in listed]
    return Arrays(path, clip, view, *known, parts or None)


def _replay(
    where: str, clip: Clip, view: View, keys: Keys | None, task: str, prefix: str, note: Callable[[str], None]
) -> Dataset:
    from learner.datasets.replay_clips import ReplayClips

    def readers() -> list[Reader]:
        lacking: list[str] = []
        opened = open_sources(where, prefix, lacking, lacking)
        for line in lacking:
            note(line)
        return opened

    try:
        return ReplayClips(readers, clip, view, *_known(keys, known_spaces([where], task)[1]), note)
    except ShardDownError as error:
        raise ValueError(str(error)) from error


def _generated(where: str, clip: Clip, view: View, split: str, conditions: bool) -> Dataset:
    match = _GENERATED.fullmatch(where)
    name, seed = (match["name"], int(match["seed"] or 0)) if match else ("", 0)
    if name not in _NAMES:
        names = ", ".join(sorted(_NAMES))
        raise ValueError(f"There is no dataset {where!r}. Generated are {names}; named generated:NAME[:SEED].")
    if split not in SPLITS:
        raise ValueError(f"Generated datasets have the splits {' and '.join(SPLITS)}, got {split!r}.")
    if name in GENERATED:
        held = GENERATED[name](split, seed)
    elif name == _ROOMS:
        from deploy.stored.fresh_rooms import fresh_rooms

        held = fresh_rooms(split, seed)
    else:
        frames, actions, states = _played(name, split, seed)
        held = Held(name=f"{where} ({split}, seed {seed})", frames=frames, actions=actions, states=states)
    return held.seen(clip, view, conditions)


def _played(name: str, split: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames, actions and states of clips that an environment generates."""
    n = _CLIPS[name][split]
    if name in ("block_world", "goal_world"):
        from actors.envs import block_world

        frames, actions, places = block_world.random_clips(
            n, block_world.WALK_STEPS + 1, [seed, split == "train"], goals=name == "goal_world"
        )
        one_hot = np.eye(len(block_world.MOVES), dtype=np.float32)[actions]
        return frames, one_hot, places.astype(np.float32)
    from actors.envs import point_reach, two_room

    seed = 2 * seed + (split == "test")
    if name == "two_room":
        return two_room.random_clips(n, two_room.CLIP, seed)
    return point_reach.random_clips(n, point_reach.STEPS + 1, seed)


def _known(keys: Keys | None, spaces: tuple[Spaces, Spaces] | None) -> tuple[Keys, dict[str, int]]:
    """The keys, with the actions of known spaces if none are named, and the number of classes of discrete keys."""
    keys = keys or Keys()
    if spaces is None:
        return keys, {}
    classes = {key: space.classes for group in spaces for key, space in group.items() if space.discrete}
    return replace(keys, actions=keys.actions or tuple(sorted(spaces[1]))), classes
