"""Runs that come and go, their groups, and what people write about them."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.monitor import runs as runs_module
from deploy.monitor.curves import Question
from deploy.monitor.runs import Runs
from deploy.monitor.views import Shown, Views
from deploy.reports.curves import Curve
from tests.deploy.monitor.written_runs import add_episodes, write_run

TASK = "gym:CartPole-v1"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "SEARCH", 0.0)


def views(folder: Path, *baselines: Curve) -> Views:
    found = Views(Runs([folder]), baselines)
    found.runs.refresh()
    return found


def test_runs_appear_grow_and_vanish(tmp_path: Path) -> None:
    one = write_run(tmp_path, "a/deep/one", [1.0, 2.0])
    seen = views(tmp_path)
    (row,) = seen.table(Shown())["runs"]
    assert (row["name"], row["frames"], row["score"], row["state"]) == ("a/deep/one", 200, 1.5, "stopped")
    two = write_run(tmp_path, "two", [3.0])
    changed, gone = seen.runs.refresh()
    assert [seen.run(name).path for name in changed] == [two] and not gone
    time.sleep(0.01)
    add_episodes(one, [6.0], start=2)
    changed, _ = seen.runs.refresh()
    assert [seen.run(name).path for name in changed] == [one]
    assert seen.run(changed[0]).summary()["score"] == 3.0
    (lost,) = [run.id for run in seen.runs.by_id.values() if run.path == two]
    shutil.rmtree(two)
    assert seen.runs.refresh() == ([], [lost])
    assert len(seen.table(Shown())["runs"]) == 1


def test_a_run_in_the_place_of_another_has_its_own_curve(tmp_path: Path) -> None:
    seen = Views(Runs([tmp_path]))
    for score in (1.0, 2.0):
        path = write_run(tmp_path, "a", [score])
        seen.look()
        (group,) = seen.curves(TASK, Question(), Shown())["groups"]
        assert group["y"].tolist() == [score]
        shutil.rmtree(path)
        seen.look()


def test_seeds_are_one_group_and_another_group_changes_no_line(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path, f"a-{seed}", [float(seed), 2.0, 4.0 + seed], seed=seed, fields={"log_every": seed + 1})
    question = Question(bins=10)
    seen = views(tmp_path)
    (before,) = seen.curves(TASK, question, Shown())["groups"]
    assert (before["label"], before["n"], before["few"]) == ("a", 3, False)
    assert before["x"].tolist() == [100, 200, 300] and before["y"].tolist() == [1, 2, 5]
    assert (before["low"][1], before["high"][1]) == (2, 2) and before["low"][2] < 5 < before["high"][2]
    write_run(tmp_path, "0-fast", [9.0] * 40, each=1000, fields={"learner.train_ratio": 64.0})
    seen.runs.refresh()
    groups = seen.curves(TASK, question, Shown())["groups"]
    after, other = groups
    assert after["id"] == before["id"] and after["place"] == before["place"]
    assert all(np.array_equal(before[key], after[key]) for key in ("x", "y", "low", "high"))
    assert other["detail"] == "train ratio 64" and other["few"] and np.isnan(other["low"]).all()
    assert len(other["dots"]["x"]) == 40


@pytest.mark.parametrize(("statistic", "value"), [("mean", 26.0), ("median", 2.5), ("iqm", 2.5)])
def test_statistics_over_seeds(tmp_path: Path, statistic: str, value: float) -> None:
    for seed, score in enumerate([1.0, 2.0, 3.0, 98.0]):
        write_run(tmp_path, f"a-{seed}", [score], seed=seed)
    (group,) = views(tmp_path).curves(TASK, replace(Question(), statistic=statistic), Shown())["groups"]  # type: ignore[arg-type]
    assert group["y"].tolist() == [value]


def test_axes_kinds_hidden_runs_and_published_curves(tmp_path: Path) -> None:
    write_run(tmp_path, "a-0", [1.0, 3.0], evaluations={100: 7.0, 200: 9.0})
    write_run(tmp_path, "a-1", [5.0, 5.0], seed=1)
    published = Curve(task=TASK, method="dreamerv3", seed=0, xs=np.array([100.0, 200]), ys=np.array([2.0, 4]))
    seen = views(tmp_path, published, replace(published, method="random", xs=np.zeros(1), ys=np.ones(1), constant=True))
    updates = seen.curves(TASK, Question(axis="updates"), Shown())
    assert updates["groups"][0]["x"].tolist() == [10, 20] and updates["baselines"][0]["level"] == 1.0
    (line, level) = seen.curves(TASK, Question(), Shown())["baselines"]
    assert line["y"].tolist() == [2, 4] and level["level"] == 1.0
    evaluations = seen.curves(TASK, Question(kind="eval"), Shown())["groups"]
    assert evaluations[0]["n"] == 1 and evaluations[0]["y"].tolist() == [7, 9]
    hidden = next(run.id for run in seen.runs.by_id.values() if run.name == "a-1")
    assert seen.curves(TASK, Question(), Shown(hidden=frozenset({hidden})))["groups"][0]["y"].tolist() == [1, 3]
    assert seen.curves(TASK, Question(), Shown("seed=1"))["groups"][0]["y"].tolist() == [5, 5]
    lengths = seen.curves(TASK, Question(value="length"), Shown())
    assert lengths["groups"][0]["y"].tolist() == [100, 100] and {"score", "length"} <= set(lengths["values"])


def test_hours_leave_pauses_out(tmp_path: Path) -> None:
    path = write_run(tmp_path, "a", [1.0, 2.0, 3.0, 4.0])
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for line, moment in zip(lines, (0, 36, 100_036, 100_072), strict=True):
        line["time"] = 1e9 + moment
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (group,) = views(tmp_path).curves(TASK, Question(axis="hours"), Shown())["groups"]
    assert group["x"][-1] == pytest.approx(4 * 36 / 3600)


def test_metrics_of_chosen_runs(tmp_path: Path) -> None:
    path = write_run(tmp_path, "a", [0.0] * 4)
    write_run(tmp_path, "b", [0.0] * 2, task="gym:Acrobot-v1")
    seen = views(tmp_path)
    assert seen.metric_names(Shown()) == ["fps/env", "train/loss/total"]
    found = seen.metric("train/loss/total", "frames", 0.5, False, TASK, Shown())
    (line,) = found["lines"]
    assert line["raw"].tolist() == [10, 5, 10 / 3, 2.5] and line["y"][1] == pytest.approx((5 + 5) / 1.5)
    time.sleep(0.01)
    add_episodes(path, [0.0], start=4)
    seen.runs.refresh()
    assert len(seen.metric("train/loss/total", "updates", 0, False, TASK, Shown())["x"]) == 5
    with pytest.raises(ValueError, match="decay"):
        seen.metric("x", "frames", 1.0, False, "", Shown())


def test_notes_are_kept_in_the_run_directory(tmp_path: Path) -> None:
    path = write_run(tmp_path, "a", [1.0])
    seen = views(tmp_path)
    (name,) = seen.runs.by_id
    row = seen.annotate(name, {"tags": [" paper ", "paper", "x  y"], "note": "<b>good</b>"})
    assert row["tags"] == ["paper", "x y"] and row["note"] == "<b>good</b>"
    assert seen.look()[0] == [name]  # other pages are told
    assert json.loads((path / "notes.json").read_text()) == {
        "tags": ["paper", "x y"],
        "note": "<b>good</b>",
        "archived": False,
    }
    seen.annotate(name, {"archived": True})
    assert not seen.table(Shown())["runs"][0]["selected"] and seen.table(Shown("is:archived"))["runs"][0]["selected"]
    assert views(tmp_path).run(name).notes.tags == ("paper", "x y")
    many: list[Any] = list("abcdefghijklmnopqrstuvwxyz")
    wrong: list[Any] = [
        {"tags": "x"},
        {"tags": [1]},
        {"tags": many},
        {"note": "x" * 4001},
        {"archived": 1},
        {"path": "/"},
        [],
    ]
    for changes in wrong:
        with pytest.raises(ValueError, match="tags|note|archived"):
            seen.annotate(name, changes)
    (path / "notes.json").write_text("{broken")
    assert views(tmp_path).run(name).notes.tags == ()


def test_notes_that_cannot_be_written_change_nothing(tmp_path: Path) -> None:
    path, elsewhere = write_run(tmp_path / "runs", "a", [1.0]), tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    (path / "notes.json").symlink_to(elsewhere)
    seen = views(tmp_path / "runs")
    (name,) = seen.runs.by_id
    with pytest.raises(ValueError, match="notes.json is a link"):
        seen.annotate(name, {"note": "x"})
    (path / "notes.json").unlink()
    (path / ".notes.new.json").symlink_to(elsewhere)
    assert seen.annotate(name, {"note": "x"})["note"] == "x" and elsewhere.read_text() == "mine"
    (path / "notes.json").unlink()
    (path / "notes.json").mkdir()
    with pytest.raises(ValueError, match="cannot be written to .*notes.json: "):
        seen.annotate(name, {"note": "y"})
    assert seen.run(name).notes.note != "y"


def test_configurations_are_compared(tmp_path: Path) -> None:
    write_run(tmp_path, "a", [1.0], seed=3)
    write_run(tmp_path, "b", [1.0], seed=3, fields={"learner.batch_size": 8})
    seen = views(tmp_path)
    names = sorted(seen.runs.by_id, key=lambda name: seen.run(name).name)
    fields = seen.difference(names)["fields"]
    assert fields["learner.batch_size"] == [16, 8] and "seed" not in fields and "logdir" in fields
    with pytest.raises(LookupError):
        seen.difference(["../../etc"])


def test_damaged_runs_do_no_harm(tmp_path: Path) -> None:
    path = write_run(tmp_path, "a", [1.0])
    (path / "config.yaml").write_text("[}\x00")
    (path / "status.json").mkdir()
    write_run(tmp_path, "b", [2.0])
    other = tmp_path / "c"
    other.mkdir()
    (other / "scores.jsonl").mkdir()
    (other / "metrics.jsonl").write_bytes(b"\xff\xfe" * 100)
    with (tmp_path / "b" / "scores.jsonl").open("a") as file:
        file.write('{"kind": [], "frames": 300, "updates": 30, "score": 9}\n')
    seen = views(tmp_path)
    assert {row["name"] for row in seen.table(Shown())["runs"]} == {"a", "b", "c"}
