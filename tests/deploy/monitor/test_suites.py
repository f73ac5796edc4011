"""Scores over a suite's tasks: those of rliable's statistics, and of nobody else's runs."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.monitor import runs as runs_module
from deploy.monitor.curves import Question
from deploy.monitor.questions import QuestionError
from deploy.monitor.runs import Runs
from deploy.monitor.views import Shown, Views
from deploy.reports.curves import Curve
from deploy.reports.statistics import estimate
from tests.deploy.monitor.written_runs import add_episodes, write_run

LEVELS = {"pong": (-20.7, 14.6), "boxing": (0.1, 12.1)}


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Views:
    """Three seeds on each of two games that end at 0.5, 0.6 and 0.7 of a human, and one slower method on one game."""
    monkeypatch.setattr(runs_module, "SEARCH", 0.0)
    for game, (random, human) in LEVELS.items():
        for seed, level in enumerate((0.5, 0.6, 0.7)):
            scores = [random + min(1.0, n / 40) * level * (human - random) for n in range(1, 61)]
            write_run(tmp_path, f"ours/{game}-{seed}", scores, task=f"atari_{game}", seed=seed)
    fields = {"learner.train_ratio": 8.0}
    write_run(tmp_path, "slow/pong-0", [-20.7] * 60, task="atari_pong", fields=fields)
    write_run(tmp_path, "other", [1.0, 2.0])
    xs = np.arange(1.0, 61) * 100
    published = [Curve(task=f"atari_{game}", method="dreamerv3", seed=0, xs=xs, ys=np.full(60, human))
                 for game, (_, human) in LEVELS.items()]  # fmt: skip
    half = [Curve(task="atari_pong", method="half", seed=0, xs=xs, ys=xs)]
    found = Views(Runs([tmp_path]), published + half)
    found.runs.refresh()
    return found


def asked(seen: Views, **more: Any) -> dict[str, Any]:
    given = {"at": 0.0, "goal": 0.5} | more
    return seen.suite("suite:atari", Question(statistic="iqm"), given["at"], given["goal"], Shown())


def test_scores_are_normalised_and_aggregated(seen: Views) -> None:
    (suite,) = seen.table(Shown())["suites"]
    assert sorted(suite["tasks"]) == ["atari_boxing", "atari_pong"]
    answer = asked(seen)
    by_label = {one["label"]: one for one in answer["groups"]}
    ours, slow = by_label["ours"], by_label["slow"]
    expected = [np.array([0.5, 0.6, 0.7])] * 2
    for name in ("iqm", "mean", "median"):
        wanted = estimate(name, expected)
        assert ours["overall"][name]["value"] == pytest.approx(wanted.value)
        assert ours["overall"][name]["low"] == pytest.approx(wanted.low)
    shape = ours["overall"]["profile"]
    assert shape["y"][np.searchsorted(shape["x"], 0.55)] == pytest.approx(2 / 3)
    assert ours["y"][-1] == pytest.approx(0.6) and ours["each"]["atari_pong"] == {"mean": pytest.approx(0.6), "n": 3}
    assert list(slow["each"]) == ["atari_pong"] and slow["overall"]["mean"]["value"] == pytest.approx(0)
    (published,) = answer["baselines"]  # not `half`, which lacks a task
    assert published["name"] == "dreamerv3" and published["overall"]["iqm"]["value"] == pytest.approx(1)


def test_frames_to_a_normalised_score(seen: Views) -> None:
    def reach(goal: float) -> dict[str, Any]:
        return next(one for one in asked(seen, goal=goal)["groups"] if one["label"] == "ours")["reach"]

    assert reach(0.65) == {"middle": None, "reached": 2, "of": 6}
    published = asked(seen, goal=0.9)["baselines"][0]["reach"]
    assert published == {"middle": pytest.approx(300, abs=100), "reached": 2, "of": 2}  # its points are means already
    half = reach(0.45)
    assert half["reached"] == 6 and 2900 <= half["middle"] <= 4500
    early = asked(seen, at=2000)["groups"][0]
    assert early["each"]["atari_pong"]["mean"] == pytest.approx(0.6 * 20 / 40, rel=0.05) and early["ends"] == [
        2000,
        2000,
    ]


def test_over_hours_scores_are_still_those_at_frames(seen: Views) -> None:
    frames = {one["label"]: one for one in asked(seen)["groups"]}["ours"]
    hours = seen.suite("suite:atari", Question(axis="hours", statistic="iqm"), 0.0, 0.5, Shown())["groups"]
    ours = {one["label"]: one for one in hours}["ours"]
    for name in ("overall", "ends", "reach", "each"):
        assert str(ours[name]) == str(frames[name]), name
    assert ours["x"][-1] < 1  # an hour


def test_what_is_kept_of_a_group_is_replaced_when_it_grows(seen: Views, tmp_path: Path) -> None:
    sizes = []
    for number in range(3):
        asked(seen)
        seen.curves("atari_pong", Question(), Shown())
        sizes.append(len(seen._curves))
        time.sleep(0.01)
        add_episodes(tmp_path / "ours/pong-0", [1.0], start=60 + number)
        seen.runs.refresh()
    assert sizes[0] == sizes[1] == sizes[2]


def test_a_further_run_changes_no_other_method(seen: Views, tmp_path: Path) -> None:
    before = {one["label"]: one for one in asked(seen)["groups"]}
    write_run(tmp_path, "slow/boxing-0", [3.0] * 10, task="atari_boxing", fields={"learner.train_ratio": 8.0})
    seen.runs.refresh()
    after = {one["label"]: one for one in asked(seen)["groups"]}
    assert after["ours"]["overall"]["iqm"] == before["ours"]["overall"]["iqm"]
    assert np.array_equal(after["ours"]["y"], before["ours"]["y"]) and len(after["slow"]["each"]) == 2
    time.sleep(0.01)
    add_episodes(tmp_path / "slow/boxing-0", [12.1] * 50, start=10)
    seen.runs.refresh()
    again = {one["label"]: one for one in asked(seen)["groups"]}
    assert again["slow"]["each"]["atari_boxing"]["mean"] == pytest.approx(1)


@pytest.mark.parametrize("wrong", [{"at": -1}, {"at": float("nan")}, {"goal": float("inf")}, {"at": 1e30}])
def test_questions_that_make_no_sense(seen: Views, wrong: dict[str, float]) -> None:
    with pytest.raises(QuestionError):
        asked(seen, **wrong)
    assert seen.suite("suite:nothing", Question(), 0, 0.5, Shown())["groups"] == []
