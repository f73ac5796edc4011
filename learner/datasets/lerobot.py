"""LeRobot datasets, read from their parquet and video files without the package: versions 2.0, 2.1 and 3.0.

meta/info.json                       version, rate, features, templates of the paths
meta/episodes.jsonl                  2.x: a line for each episode
meta/episodes/chunk-*/file-*.parquet 3.0: a row for each episode, with the files that hold it and its place there
data/...parquet, videos/...mp4       steps; 2.x: one file per episode, 3.0: many episodes in one
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from learner.datasets.dataset import Clip, Example, UnreadableError, require_examples
from learner.datasets.images import DAMAGE
from learner.datasets.kept import Kept
from learner.datasets.keys import Keys, cut, example
from learner.datasets.videos import Video, require_av
from learner.datasets.view import View
from replay.counted import counted
from replay.step import Field, Rows

INFO = Path("meta", "info.json")
_OWN = ("timestamp", "frame_index", "episode_index", "index", "task_index")  # columns of every dataset
_PIXELS = ("video", "image")
_ACTION = "action"


@dataclass(frozen=True)
class Episode:
    """Where an episode is: its rows in a parquet file, and the file and first frame of its video."""

    number: int
    length: int
    data: Path
    video: Path | None
    first_frame: int


def require_pyarrow() -> ModuleType:
    """pyarrow.parquet. Raises ValueError saying how to install it if it is missing."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"LeRobot datasets need the package pyarrow, which is missing ({error}): pip install pyarrow av, or pip "
            "install 'nexus-worlds[lerobot]'."
        ) from error
    return pyarrow.parquet


class LeRobot:
    """One clip of each episode per pass, at a random place. Left open, the frames are those of the only camera, the
    actions `action`, the states every other feature of floats. ValueError: the dataset cannot be read, a key is
    missing, or a package is."""

    live = False

    def __init__(self, where: Path, clip: Clip, view: View, keys: Keys | None = None) -> None:
        self._parquet = require_pyarrow()
        self.where, self.view = where, view
        self._info = _read_info(where)
        features: dict[str, dict[str, Any]] = self._info["features"]
        self.rate = float(self._info["fps"])
        self.clip = clip.at_rate(self.rate)
        self.keys = (keys or Keys()).chosen({key: _field(one) for key, one in features.items() if _usable(key, one)},
                                            str(where))  # fmt: skip
        self._in_video = bool(self.keys.frames) and features[self.keys.frames]["dtype"] == "video"
        if self._in_video:
            require_av("Videos of LeRobot datasets", "lerobot")
        self.columns = [k for k in (*self.keys.actions, *self.keys.states) if k]
        if self.keys.frames and not self._in_video:
            self.columns.append(self.keys.frames)
        try:
            self.episodes = self._from_tables() if self._version >= 3 else self._from_lines()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{where}: its list of episodes cannot be read: {error!r}.") from error
        self._kept = Kept()
        require_examples(self.episodes, "episodes", where, "record some first")

    def __len__(self) -> int:
        return len(self.episodes)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        episode = self.episodes[index]
        name = f"{episode.data} (episode {episode.number})"
        if episode.length < self.clip.span:
            raise UnreadableError(name, f"it has {episode.length} steps, a clip spans {self.clip.span}")
        first = int(rng.integers(episode.length - self.clip.span + 1))
        wanted = range(first, first + self.clip.span, self.clip.stride)
        if self.keys.frames in self.columns:  # their bytes would fill the memory
            rows = self._rows(episode, name)
        else:
            rows = dict(self._kept.get(index, lambda _: self._rows(episode, name)))
        pictures = rows.pop(self.keys.frames, None)
        vectors = Keys(actions=self.keys.actions, states=self.keys.states)
        clip = cut(rows, vectors, first, self.clip.frames, self.clip.stride) if rows else {}
        out = example(clip, vectors, self.view, rng, {})
        if episode.video is not None:
            with Video(episode.video) as video:
                scale = video.rate / self.rate  # a video may have another rate than the steps
                at = [round((episode.first_frame + step) * scale) for step in wanted]
                out["frames"] = self.view(video.read(at), rng)
        elif pictures is not None:
            out["frames"] = self.view((_picture(pictures[step], name) for step in wanted), rng)
        return out

    def describe(self) -> str:
        frames = f", frames from {self.keys.frames!r}" if self.keys.frames else ""
        return f"{counted(len(self), 'episode')} of the LeRobot dataset {self.where} ({self.rate:g} fps){frames}"

    def close(self) -> None:
        return None

    @property
    def _version(self) -> float:
        return float(str(self._info["codebase_version"]).removeprefix("v"))

    def _rows(self, episode: Episode, name: str) -> Rows:
        """The columns of one episode; pictures as their files' bytes."""
        if not self.columns:
            return {}
        try:
            table = self._parquet.read_table(
                episode.data, columns=[*self.columns, "episode_index"],
                filters=[("episode_index", "=", episode.number)], use_threads=False,
            )  # fmt: skip
            rows = {key: _array(table.column(key).to_pylist(), key == self.keys.frames) for key in self.columns}
        except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's own errors are among these
            raise UnreadableError(name, str(error).splitlines()[0]) from error
        if {len(value) for value in rows.values()} != {episode.length}:
            raise UnreadableError(name, f"it has {len(table)} of its {episode.length} steps")
        return rows

    def _from_lines(self) -> list[Episode]:
        text = (self.where / "meta" / "episodes.jsonl").read_text()
        found = []
        for line in filter(None, text.splitlines()):
            about = json.loads(line)
            number = int(about["episode_index"])
            place = {"episode_chunk": number // int(self._info["chunks_size"]), "episode_index": number}
            found.append(Episode(number, int(about["length"]), *self._files(place, place), 0))
        return found

    def _from_tables(self) -> list[Episode]:
        camera = f"videos/{self.keys.frames}/"
        columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
        if self._in_video:
            columns += [camera + name for name in ("chunk_index", "file_index", "from_timestamp")]
        found = []
        for file in sorted((self.where / "meta" / "episodes").glob("*/*.parquet")):
            for about in self._parquet.read_table(file, columns=columns).to_pylist():
                places = [
                    {name: int(about.get(prefix + name, 0)) for name in ("chunk_index", "file_index")}
                    for prefix in ("data/", camera)
                ]
                first = round(about.get(camera + "from_timestamp", 0.0) * self.rate)
                found.append(Episode(int(about["episode_index"]), int(about["length"]), *self._files(*places), first))
        return found

    def _files(self, data: dict[str, int], video: dict[str, int]) -> tuple[Path, Path | None]:
        path = self.where / str(self._info["data_path"]).format(**data)
        if not self._in_video:
            return path, None
        return path, self.where / str(self._info["video_path"]).format(video_key=self.keys.frames, **video)


def _read_info(where: Path) -> dict[str, Any]:
    try:
        info = json.loads((where / INFO).read_bytes())
        version = str(info["codebase_version"])
        missing = {"features", "fps", "data_path"} - set(info)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{where / INFO} is not that of a LeRobot dataset: {error!r}.") from error
    if version.removeprefix("v").split(".")[0] not in ("2", "3") or missing:
        lacks = f"it lacks {sorted(missing)}" if missing else f"its version is {version}, known are 2.x and 3.x"
        raise ValueError(f"{where / INFO} cannot be used: {lacks}.")
    return info


def _usable(key: str, feature: dict[str, Any]) -> bool:
    own = key in _OWN or key.startswith("next.")
    return not own and (feature["dtype"] in _PIXELS or str(feature["dtype"]).startswith("float"))


def _field(feature: dict[str, Any]) -> Field:
    if feature["dtype"] in _PIXELS:
        return Field(dtype=np.dtype(np.uint8), shape=(1, 1, 3))  # its size is that of the file
    return Field(dtype=np.dtype(feature["dtype"]), shape=tuple(feature["shape"]))


def _array(values: list[Any], pictures: bool) -> np.ndarray:
    if not pictures:
        return np.asarray(values, np.float32)
    out = np.empty(len(values), object)
    out[:] = [value["bytes"] for value in values]
    return out


def _picture(content: bytes, name: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))
    except DAMAGE as error:
        raise UnreadableError(name, f"a picture in it: {error}") from error
