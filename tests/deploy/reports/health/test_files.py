"""Report files: complete, few, in order, and forgotten where a run goes back."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.reports.health import files, measuring
from deploy.reports.health.files import read_reports, report_files, write_report
from deploy.wiring.config import RunConfig
from tests.deploy.reports.health.written_reports import report, write
from tests.learner.health.test_measure import learner


def measured(updates: int) -> dict[str, Any]:
    return {key: value for key, value in report(updates).items() if key not in ("frames", "time", "cost")}


def test_reports_are_written_whole_with_what_they_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1000.0, 1020.4])
    monkeypatch.setattr(files.time, "time", lambda: next(times))
    first = write_report(tmp_path, measured(200), frames=1600)
    assert first["cost"] is None and "first report" in first["missing"]["cost"]
    second = write_report(tmp_path, measured(300), frames=2400)
    assert second["cost"] == pytest.approx(
        {"seconds": 0.4, "share": 0.4 / 20.4, "seconds_per_update": 0.2, "updates_per_frame": 0.125}
    )
    assert read_reports(tmp_path) == [first, second]
    assert [path.name for path in (tmp_path / "health").iterdir() if path.name.startswith(".")] == []


def test_a_pause_between_two_lives_is_no_time_and_a_clock_that_went_back_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([1000.0, 1020.0, 1040.0, 9000.0, 8000.0])
    monkeypatch.setattr(files.time, "time", lambda: next(times))
    made = [write_report(tmp_path, measured(updates), frames=1) for updates in (100, 200, 300, 400, 500)]
    assert made[3]["cost"]["share"] == pytest.approx(0.4 / 20)
    assert made[4]["cost"] is None and "clock was set back" in made[4]["missing"]["cost"]


def test_only_the_newest_stay_and_a_run_that_went_back_has_none_of_its_future(tmp_path: Path) -> None:
    write(tmp_path, *(report(100 * n) for n in range(1, 61)))
    write_report(tmp_path, measured(5950), frames=1)
    kept = [updates for updates, _ in report_files(tmp_path)]
    assert len(kept) == 50 and kept[-2:] == [5900, 5950] and kept[0] == 1100
    write_report(tmp_path, measured(1150), frames=1)
    assert [updates for updates, _ in report_files(tmp_path)] == [1100, 1150]


def test_damaged_and_foreign_files_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, report(100), report(300))
    folder = tmp_path / "health"
    for name, text in (("report-00000200.json", "{"), ("report-00000250.json", "[]"), ("report-x.json", "{}")):
        (folder / name).write_text(text)
    assert [one["updates"] for one in read_reports(tmp_path)] == [100, 300]
    assert read_reports(tmp_path / "none") == []
    write_report(tmp_path, measured(400), frames=1)
    assert json.loads((folder / "report-00000400.json").read_text())["cost"] is not None


def test_a_part_that_turns_unhealthy_is_said_once(tmp_path: Path) -> None:
    made, config, notes = learner(), RunConfig(task="gym:CartPole-v1"), list[str]()
    for update in range(4):
        made.update()
        if update == 0:  # a reward head that promises what it never was taught
            made.agent.reward.out.bias.data[-1] += 20.0
        values = measuring.health_metrics(
            made, config, tmp_path, 10 * update, notes.append, begun=time.perf_counter() - 100
        )
        assert values["report/health/seconds"] > 100 and values["report/health/imagined_mean"] > 1
    assert len(read_reports(tmp_path)) == 4
    said = [note for note in notes if "the policy imagines a return of" in note]
    assert len(said) == 1 and said[0].startswith("World model, reward exploitation: Over 3 steps")
    quiet = replace(config, health=replace(config.health, optimism=0.0, calibration=0.0, compounding=0.0))
    made.update()
    measuring.health_metrics(made, quiet, tmp_path, 50, notes.append, begun=time.perf_counter())
    assert len([note for note in notes if "imagines" in note]) == 1


def test_numbers_that_are_zero_are_logged() -> None:
    made = report() | {"returns": {**report()["returns"], "imagined_mean": 0.0, "real_mean": None}}
    numbers = measuring._numbers(made, [])
    assert numbers["report/health/imagined_mean"] == 0.0 and "report/health/real_mean" not in numbers
