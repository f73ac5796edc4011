"""The logs of a run: read back with JSON and TensorBoard's own reader, cut and continued."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deploy.reports.metrics import METRICS, SCORES, WALL_CLOCK_KEYS, MetricsWriter, read_lines


def scalars(logdir: Path, tag: str) -> list[tuple[int, float]]:
    reader = EventAccumulator(str(logdir))
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def write(logs: MetricsWriter, first: int, last: int) -> None:
    for n in range(first, last):
        logs.metrics(n * 10, n, {"train/loss/kl": n / 2})
        logs.episode(n * 10, n, score=n, length=10, seed=7 + n, kind="train", metrics={"is_success": n % 2})


def test_lines_and_events_carry_what_was_written(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as logs:
        logs.metrics(16, 3, {"train/loss/kl": np.float32(0.5), "replay/items": np.int64(12), "policy/lag": 2})
        logs.episode(16, 3, score=np.float32(21), length=16, seed=2**40, kind="train")
        logs.episode(16, 3, score=33.5, length=20, seed=5, kind="eval", metrics={"is_success": 1, "log/speed/avg": 0.5})
    (line,) = read_lines(tmp_path / METRICS)
    assert line.pop("time") > 1.6e9
    assert line == {"frames": 16, "updates": 3, "train/loss/kl": 0.5, "replay/items": 12.0, "policy/lag": 2}
    assert list(read_lines(tmp_path / SCORES)) == [
        {"frames": 16, "updates": 3, "score": 21.0, "length": 16, "seed": 2**40, "kind": "train"},
        {"frames": 16, "updates": 3, "score": 33.5, "length": 20, "seed": 5, "kind": "eval"}
        | {"is_success": 1, "log/speed/avg": 0.5},
    ]
    assert scalars(tmp_path, "train/loss/kl") == [(16, 0.5)]
    assert scalars(tmp_path, "episode/score") == [(16, 21.0)]
    assert scalars(tmp_path, "eval/score") == [(16, 33.5)]
    assert scalars(tmp_path, "eval/is_success") == [(16, 1)] and scalars(tmp_path, "eval/log/speed/avg") == [(16, 0.5)]


def test_non_finite_numbers_stay_strict_json(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as logs:
        logs.metrics(1, 1, {"a": math.nan, "b": math.inf})
    text = (tmp_path / METRICS).read_text()
    assert json.loads(text, parse_constant=pytest.fail)["a"] is None
    assert math.isnan(scalars(tmp_path, "a")[0][1])


def test_a_line_is_readable_before_the_writer_closes(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as logs:
        write(logs, 0, 2)
        assert len(list(read_lines(tmp_path / SCORES))) == 2
        assert len(scalars(tmp_path, "episode/score")) == 2


@pytest.mark.parametrize("cut", ["load", "truncate"])
def test_continuing_leaves_the_same_logs_as_never_stopping(tmp_path: Path, cut: str) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    with MetricsWriter(straight) as logs:
        write(logs, 0, 9)
    with MetricsWriter(broken) as logs:
        write(logs, 0, 5)
        state = json.loads(json.dumps(logs.state()))
        write(logs, 5, 8)  # after the checkpoint: lost
    with MetricsWriter(broken) as logs:
        if cut == "load":
            logs.load(state)
        else:
            logs.truncate(frames=40, updates=4)
        write(logs, 5, 9)

    def lines(logdir: Path, name: str) -> list[dict]:
        return [
            {key: value for key, value in line.items() if not key.startswith(WALL_CLOCK_KEYS)}
            for line in read_lines(logdir / name)
        ]

    assert lines(broken, METRICS) == lines(straight, METRICS)
    assert (broken / SCORES).read_bytes() == (straight / SCORES).read_bytes()
    for tag in ("train/loss/kl", "episode/score"):
        assert scalars(broken, tag) == scalars(straight, tag)
        assert len(scalars(broken, tag)) == 9


def test_a_learner_that_goes_back_takes_its_lines_along_and_leaves_the_episodes(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as logs:
        for i in range(1, 6):
            logs.metrics(100 * i, i, {"train/loss/kl": 0.5})
            for kind in ("train", "eval"):
                logs.episode(100 * i, i, score=i, length=9, seed=i, kind=kind)
        logs.rewind(3)
        logs.metrics(600, 4, {"train/loss/kl": 0.5})
        logs.episode(600, 4, score=6, length=9, seed=6, kind="train")

    def counts(name: str, kind: str | None = None) -> list[tuple[int, int]]:
        lines = [line for line in read_lines(tmp_path / name) if line.get("kind") == kind]
        return [(line["frames"], line["updates"]) for line in lines]

    assert counts(METRICS) == [(100, 1), (200, 2), (300, 3), (600, 4)]
    assert counts(SCORES, "eval") == [(100, 1), (200, 2), (300, 3)]
    assert counts(SCORES, "train") == [(100, 1), (200, 2), (300, 3), (400, 3), (500, 3), (600, 4)]


def test_loading_twice_drops_event_files_begun_after_the_checkpoint(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as logs:
        write(logs, 0, 3)
        state = logs.state()
    for _ in range(2):
        with MetricsWriter(tmp_path) as logs:
            logs.load(state)
            write(logs, 3, 6)
    assert [step for step, _ in scalars(tmp_path, "episode/score")] == [0, 10, 20, 30, 40, 50]
    assert len(list(tmp_path.glob("events.*"))) == 2


def test_a_torn_last_line_is_ignored_and_then_overwritten(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as logs:
        write(logs, 0, 2)
    with (tmp_path / SCORES).open("ab") as file:
        file.write(b'{"frames": 30, "sco')
    assert len(list(read_lines(tmp_path / SCORES))) == 2
    with MetricsWriter(tmp_path) as logs:
        write(logs, 2, 3)
    assert [line["frames"] for line in read_lines(tmp_path / SCORES)] == [0, 10, 20]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / SCORES).write_text('{"frames": 1}\nnot json\n{"frames": 2}\n')
    with pytest.raises(ValueError, match=r"scores\.jsonl, line 2 is not JSON"):
        list(read_lines(tmp_path / SCORES))


def test_misuse_is_named(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as logs:
        with pytest.raises(ValueError, match="'updates'"):
            logs.metrics(1, 1, {"updates": 3})
        with pytest.raises(ValueError, match="'score'"):
            logs.episode(1, 1, score=0, length=1, seed=0, kind="train", metrics={"score": 3})
        with pytest.raises(ValueError, match="'test' is not 'train' or 'eval'"):
            logs.episode(1, 1, score=0, length=1, seed=0, kind="test")  # type: ignore[arg-type]


def test_importing_it_loads_neither_torch_nor_ray() -> None:
    code = (
        "import deploy.reports.metrics, deploy.reports.progress, sys\n"
        "print(sorted({'torch', 'ray', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=True)
    assert done.stdout.strip() == "[]"
