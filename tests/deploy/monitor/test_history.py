"""Logs that grow, tear, go back, and vanish: each frame is there once."""

import json
import math
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.monitor import history as history_module
from deploy.monitor.history import History
from deploy.monitor.tail import Tail
from deploy.reports.metrics import MetricsWriter


def append(path: Path, *lines: object, end: str = "\n") -> None:
    with path.open("a") as file:
        file.write("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + end)


def at(frames: int, updates: int, **values: object) -> dict[str, object]:
    return {"frames": frames, "updates": updates, **values}


def test_only_new_whole_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    tail = Tail(path)
    assert tail.read() == (False, [])
    append(path, {"a": 1}, '{"a": 2', end="")
    assert tail.read() == (False, [{"a": 1}])
    assert tail.read() == (False, [])
    append(path, ', "b": 3}')
    assert tail.read() == (False, [{"a": 2, "b": 3}])


def test_damaged_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append(path, {"a": 1}, "{{{", "[1]", "\x00\x00", "[" * 100_000, {"a": 2})
    tail = Tail(path)
    assert tail.read().lines == [{"a": 1}, {"a": 2}] and tail.damaged == 4


@pytest.mark.parametrize("how", ["cut and grown again", "replaced", "removed"])
def test_a_log_that_is_another_is_read_anew(tmp_path: Path, how: str) -> None:
    path = tmp_path / "log.jsonl"
    append(path, *({"n": n} for n in range(20)))
    tail = Tail(path)
    assert len(tail.read().lines) == 20
    if how == "removed":
        path.unlink()
        assert tail.read() == (True, [])
        append(path, {"n": 7})
        assert tail.read() == (False, [{"n": 7}])
        return
    if how == "replaced":
        fresh = tmp_path / "fresh"
        append(fresh, *({"n": -n} for n in range(20)))
        fresh.replace(path)
    else:
        path.write_text("")
        append(path, *({"n": -n} for n in range(30)))
    anew, lines = tail.read()
    assert anew and lines[1] == {"n": -1}


def test_metrics_after_a_checkpoint_are_replaced_although_nobody_cut_the_log(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append(path, *(at(100 * n, 10 * n, loss=n) for n in range(1, 6)))
    log = History(path)
    assert log.refresh() and log.column("frames").tolist() == [100, 200, 300, 400, 500]
    append(path, *(at(100 * n, 10 * n, loss=-n) for n in range(3, 7)))
    assert log.refresh() and not log.refresh()
    assert log.column("frames").tolist() == [100, 200, 300, 400, 500, 600]
    assert log.column("loss").tolist() == [1, 2, -3, -4, -5, -6]


def test_episodes_of_an_abandoned_life_are_replaced_and_evaluations_may_lag(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    append(path, *(at(100 * n, 10 * n, kind="train", score=1) for n in range(1, 6)))
    append(path, *(at(300, 30, kind="eval", score=9, seed=seed) for seed in range(3)))  # of an older policy
    append(path, at(600, 60, kind="train", score=1))
    log = History(path)
    log.refresh()
    assert len(log) == 9
    append(path, at(410, 41, kind="train", score=2), at(510, 51, kind="train", score=2))
    log.refresh()
    train = log.column("kind") == 0
    assert log.column("frames")[train].tolist() == [100, 200, 300, 400, 410, 510] and (~train).sum() == 3


def test_a_learner_that_goes_back_alone_keeps_the_episodes(tmp_path: Path) -> None:
    """Through the writer itself."""
    log = History(tmp_path / "scores.jsonl")
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
        for n in range(1, 5):
            writer.episode(100 * n, 10 * n, score=n, length=5, seed=n, kind="train")
        log.refresh()
        writer.rewind(20)
        writer.episode(500, 21, score=5, length=5, seed=5, kind="train")
    log.refresh()
    assert log.column("frames").tolist() == [100, 200, 300, 400, 500]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.sampled_from([1.0, None])), max_size=40), st.integers(1, 9)
)
def test_many_lines_at_once_are_as_one_by_one(moves: list[tuple[int, bool, float | None]], first: int) -> None:
    """With steps back here and there."""
    updates, lines = 20, []
    for step, evaluated, score in moves:
        updates = max(0, updates + step - (6 if step == 9 else 0) - (9 if step == 8 else 0))
        lines.append(at(10 * updates, updates, kind="eval" if evaluated else "train", score=score))
    histories = []
    for many in (1, 10**9):
        with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
            patch.setattr(history_module, "_MANY", many)
            path = Path(folder, "scores.jsonl")
            log = History(path)
            for some in (lines[:first], lines[first:]):
                if some:
                    append(path, *some)
                log.refresh()
            histories.append({name: log.column(name) for name in ("frames", "updates", "kind", "score")})
    for name, values in histories[0].items():
        assert np.array_equal(values, histories[1][name], equal_nan=True)


def test_numbers_that_are_none_are_gaps(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append(path, '{"frames": 1, "updates": 1, "x": NaN}', at(2, 2, x=None), at(3, 3, x=1e300),
           at(4, 4, y=2.0, z="text"), '{"frames": NaN, "updates": 5, "x": 1}', at(6, 6, x=10**400),
           at(7, 7, x=5))  # fmt: skip
    log = History(path)
    log.refresh()
    assert log.column("frames").tolist() == [1, 2, 3, 4, 6, 7] and log.damaged == 1
    assert np.isnan(log.column("x")[:5]).all() and log.column("x")[5] == 5 and log.column("y")[3] == 2
    assert "z" not in log.names and math.isnan(log.column("nothing")[0])


def test_a_log_that_vanishes_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    append(folder / "metrics.jsonl", at(1, 1))
    log = History(folder / "metrics.jsonl")
    log.refresh()
    shutil.rmtree(folder)
    assert log.refresh() and len(log) == 0
