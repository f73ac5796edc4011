"""LeRobot datasets of versions 2.1 and 3.0, with videos or pictures, whole and damaged."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from learner.datasets.dataset import Clip, UnreadableError
from learner.datasets.keys import Keys
from learner.datasets.lerobot import LeRobot
from learner.datasets.view import View
from tests.learner.datasets.films import SIZE, bars, film, numbers
from tests.learner.datasets.recordings import check

LENGTHS = (12, 9, 15)
CAMERA = "observation.images.top"


def table(episode: int, pictures: bool) -> pa.Table:
    """Steps of one episode; step t of episode e shows the number 20 e + t."""
    n = LENGTHS[episode]
    place = [[float(episode), float(t)] for t in range(n)]
    columns: dict[str, Any] = {
        "observation.state": place, "action": place, "timestamp": [t / 10 for t in range(n)],
        "frame_index": list(range(n)), "episode_index": [episode] * n, "next.reward": [0.0] * n,
    }  # fmt: skip
    if pictures:
        columns[CAMERA] = [{"bytes": png(20 * episode + t), "path": None} for t in range(n)]
    return pa.table(columns)


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(bars(number)).save(file, "PNG")
    return file.getvalue()


def dataset(folder: Path, version: str, pictures: bool = False) -> Path:
    old = version.startswith("v2")
    vector = {"dtype": "float32", "shape": [2], "names": ["x", "y"]}
    info = {
        "codebase_version": version, "fps": 10, "total_episodes": 3, "chunks_size": 2,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet" if old
        else "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4" if old
        else "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {
            CAMERA: {"dtype": "image" if pictures else "video", "shape": [SIZE, SIZE, 3], "names": list("hwc")},
            "observation.state": vector, "action": vector, "timestamp": {"dtype": "float32", "shape": [1]},
            "next.reward": {"dtype": "float32", "shape": [1]}, "task_index": {"dtype": "int64", "shape": [1]},
        },
    }  # fmt: skip
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    if old:
        lines = [json.dumps({"episode_index": e, "tasks": ["reach"], "length": n}) for e, n in enumerate(LENGTHS)]
        (folder / "meta" / "episodes.jsonl").write_text("\n".join(lines) + "\n")
        for e in range(3):
            file = folder / f"data/chunk-00{e // 2}/episode_00000{e}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table(e, pictures), file)
            if not pictures:
                film(folder / f"videos/chunk-00{e // 2}/{CAMERA}/episode_00000{e}.mp4", LENGTHS[e], first=20 * e)
        return folder
    places = {0: (0, 0, 0.0), 1: (0, 1, 0.0), 2: (0, 1, 0.9)}  # chunk, file and seconds: the last two share files
    rows = [
        {"episode_index": e, "length": LENGTHS[e], "data/chunk_index": chunk, "data/file_index": file}
        | ({} if pictures else {f"videos/{CAMERA}/chunk_index": chunk, f"videos/{CAMERA}/file_index": file,
                                f"videos/{CAMERA}/from_timestamp": at, f"videos/{CAMERA}/to_timestamp": 9.0})
        for e, (chunk, file, at) in places.items()
    ]  # fmt: skip
    (folder / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "meta/episodes/chunk-000/file-000.parquet")
    (folder / "data/chunk-000").mkdir(parents=True)
    pq.write_table(table(0, pictures), folder / "data/chunk-000/file-000.parquet")
    pq.write_table(
        pa.concat_tables([table(1, pictures), table(2, pictures)]), folder / "data/chunk-000/file-001.parquet"
    )
    if not pictures:
        film(folder / f"videos/{CAMERA}/chunk-000/file-000.mp4", 12)
        film(folder / f"videos/{CAMERA}/chunk-000/file-001.mp4", 24, first=20)
    return folder


def shown(version: str, pictures: bool, episode: int, step: int) -> int:
    """The number that a step shows: in 3.0 the video of episode 2 follows that of episode 1 in its file."""
    return 29 + step if episode == 2 and version == "v3.0" and not pictures else 20 * episode + step


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_clips_have_their_frames_actions_and_states(tmp_path: Path, version: str, pictures: bool) -> None:
    data = LeRobot(dataset(tmp_path / "set", version, pictures), Clip(frames=3, stride=2), View(size=24))
    assert len(data) == 3 and data.keys == Keys(frames=CAMERA, actions=("action",), states=("observation.state",))
    assert data.describe() == f"3 episodes of the LeRobot dataset {tmp_path / 'set'} (10 fps), frames from {CAMERA!r}"
    for index in range(3):
        firsts = set()
        for seed in range(12):
            example = data.example(index, np.random.default_rng(seed))
            frames = numbers(example.pop("frames"))
            first = check(example, 3, 2, index)
            assert frames == [shown(version, pictures, index, first + step) for step in (0, 2, 4)]
            firsts.add(first)
        assert len(firsts) > 3


def test_the_stride_follows_the_rate(tmp_path: Path) -> None:
    data = LeRobot(dataset(tmp_path / "set", "v2.1"), Clip(frames=3, fps=5), View(size=24))
    assert data.example(0, np.random.default_rng(0))["actions"].shape == (2, 4)


def test_damaged_parts_are_named(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "v2.1")
    (folder / "data/chunk-000/episode_000000.parquet").write_bytes(b"PAR1 nothing PAR1")
    (folder / f"videos/chunk-000/{CAMERA}/episode_000001.mp4").unlink()
    pq.write_table(table(2, False).slice(0, 10), folder / "data/chunk-001/episode_000002.parquet")
    data = LeRobot(folder, Clip(frames=3), View(size=24))
    for index, reason in enumerate([r"episode_000000\.parquet \(episode 0\): .", r"episode_000001\.mp4: .",
                                    r"episode_000002\.parquet \(episode 2\): it has 10 of its 15 steps"]):  # fmt: skip
        with pytest.raises(UnreadableError, match=reason):
            data.example(index, np.random.default_rng(0))
    (folder / "data/chunk-001/episode_000002.parquet").unlink()
    with pytest.raises(UnreadableError, match=r"episode_000002\.parquet \(episode 2\): ."):
        data.example(2, np.random.default_rng(0))
    with pytest.raises(UnreadableError, match=r"\(episode 1\): it has 9 steps, a clip spans 13"):
        LeRobot(folder, Clip(frames=4, stride=4), View()).example(1, np.random.default_rng(0))


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "v2.1", pictures=True)
    columns = table(0, True).to_pydict()
    columns[CAMERA] = [{"bytes": b"nothing", "path": None}] * LENGTHS[0]
    pq.write_table(pa.table(columns), folder / "data/chunk-000/episode_000000.parquet")
    with pytest.raises(UnreadableError, match=r"\(episode 0\): a picture in it: cannot identify"):
        LeRobot(folder, Clip(), View()).example(0, np.random.default_rng(0))


def test_what_cannot_be_read_at_all_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dataset(tmp_path / "set", "v2.1")
    info = folder / "meta" / "info.json"
    text = info.read_text()
    info.write_text(text.replace("v2.1", "v1.6"))
    with pytest.raises(ValueError, match=r"info\.json cannot be used: its version is v1\.6, known are 2\.x and 3\.x"):
        LeRobot(folder, Clip(), View())
    info.write_text("{")
    with pytest.raises(ValueError, match=r"info\.json is not that of a LeRobot dataset"):
        LeRobot(folder, Clip(), View())
    info.write_text(text)
    (folder / "meta" / "episodes.jsonl").write_text("[]\n")
    with pytest.raises(ValueError, match="its list of episodes cannot be read"):
        LeRobot(folder, Clip(), View())
    (folder / "meta" / "episodes.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds no episodes"):
        LeRobot(folder, Clip(), View())
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r"pip install pyarrow av, or pip install 'nexus-worlds\[lerobot\]'"):
        LeRobot(folder, Clip(), View())
