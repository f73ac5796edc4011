"""Health reports as the monitor reads them, and open-loop videos as it serves them."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.monitor import alerts as alerts_module
from deploy.monitor import runs as runs_module
from deploy.monitor.alerts import Alerts, rules_of, wrong_with
from deploy.monitor.answers import to_text
from deploy.monitor.health import HealthReports, answer, read_report
from deploy.monitor.questions import MissingError
from deploy.monitor.run import Run
from deploy.monitor.runs import Runs
from deploy.monitor.videos import picture, pictures
from deploy.monitor.views import Shown, Views
from deploy.reports.health.files import KEEP
from deploy.wiring.claim import LOCK
from tests.deploy.monitor.written_health import CONTEXT, report, write_film, write_report
from tests.deploy.monitor.written_runs import write_run


def looked(run: Path) -> HealthReports:
    found = HealthReports(run)
    found.look()
    return found


def test_a_page_is_told_what_is_new(tmp_path: Path) -> None:
    for updates in (100, 200, 300):
        write_report(tmp_path, updates)
    reports = looked(tmp_path)
    first = answer(reports, {})
    assert first["updates"] == [100, 200, 300] and len(first["trend"]) == 3
    assert first["newest"]["updates"] == 300 and {one["state"] for one in first["verdicts"]} <= {"healthy", "unknown"}
    again = answer(reports, {}, first["cursor"])
    assert again["trend"] == [] and again["newest"] is None and again["updates"] == first["updates"]
    write_report(tmp_path, 400, wrong=1)
    reports.look()
    new = answer(reports, {}, first["cursor"])
    assert [point["updates"] for point in new["trend"]] == [400] and new["newest"]["updates"] == 400
    assert new["trend"][0]["forgetting/ratio"] == 3


def test_a_run_that_went_back_shows_each_update_once(tmp_path: Path) -> None:
    for updates in (100, 200, 300):
        write_report(tmp_path, updates)
    write_report(tmp_path, 150, time=2000.0)
    reports = looked(tmp_path)
    assert [one["updates"] for _, one in reports.standing()] == [100, 150]
    write_report(tmp_path, 200, time=3000.0)
    reports.look()
    assert answer(reports, {})["updates"] == [100, 150, 200]
    (tmp_path / "health" / "report-00000100.json").unlink()
    reports.look()
    assert answer(reports, {}, "99")["updates"] == [150, 200]


def test_unhealthy_parts_are_alerts_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "SEARCH", 0.0)
    path = write_run(tmp_path, "a", [1.0], fields={"health.optimism": 0})
    for updates in (100, 200, 300):
        write_report(path, updates, wrong=0.0 if updates < 200 else 1.0)
    seen = Views(Runs([tmp_path]))
    seen.look()
    (run,) = seen.runs.by_id.values()
    kinds = {kind for kind, _ in wrong_with(run, rules_of(run), run.logged_at)}
    assert {"world model: compounding error", "world model: forgetting"} <= kinds
    assert "world model: reward exploitation" not in kinds  # its rule is off
    assert not set(wrong_with(run, replace(rules_of(run), health=False), run.logged_at))
    assert seen.table(Shown())["runs"][0]["health"] is True
    for updates in (400, 500):
        write_report(path, updates)
        assert seen.look()[0] == [run.id]
    assert not any("compounding" in kind for kind, _ in wrong_with(run, rules_of(run), run.logged_at))


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", '{"updates": -1}', '{"updates": "x"}', '{"updates": NaN}', '{"updates": 1e300}', "[" * 9000,
    json.dumps(report(5))[:-40],
])  # fmt: skip
def test_what_is_no_report_is_left_out(tmp_path: Path, text: str) -> None:
    write_report(tmp_path, 100)
    (tmp_path / "health" / "report-00000200.json").write_text(text)
    reports = looked(tmp_path)
    assert reports.damaged == 1 and answer(reports, {})["updates"] == [100]


@pytest.mark.parametrize("part", ["horizon", "memory", "returns", "reward", "forgetting", "actions", "cost", "missing"])
@pytest.mark.parametrize("wrong", [
    [], "x", 3, {"keys": {"a": {"model": 3}}}, {"bins": [1, {"predicted": None}], "ratio": "x"},
    {"imagined": [1, None]},
    {"keys": {"a": {"model": [1, float("nan")], "still": [None, float("inf")], "unit": 5}}, "context": -3},
])  # fmt: skip
def test_parts_of_another_form_do_no_harm(tmp_path: Path, part: str, wrong: Any) -> None:
    (path := tmp_path / "health").mkdir()
    (path / "report-00000100.json").write_text(json.dumps(report(100) | {part: wrong}))
    found = answer(looked(tmp_path), {"health.patience": "x"})
    json.loads(to_text(found))
    assert found["updates"] == [100] and len(found["verdicts"]) == 7


def test_other_files_are_no_reports(tmp_path: Path) -> None:
    path = write_report(tmp_path, 100)
    os.mkfifo(path.with_name("report-00000200.json"))
    path.with_name("report-00000300.json").mkdir()
    path.with_name("report-00000400.json").symlink_to("/etc/passwd")
    path.with_name("report-x.json").write_text("{}")
    assert answer(looked(tmp_path), {})["updates"] == [100]
    assert read_report(tmp_path / "nothing") is None
    assert answer(looked(tmp_path / "vanished"), {}, "5")["updates"] == []


def test_pictures_are_listed_and_served_in_ranges(tmp_path: Path) -> None:
    path = write_film(tmp_path, 100)
    data = path.read_bytes()
    (tmp_path / "videos" / "best.mp4").write_bytes(b"x")
    (tmp_path / "videos" / "openloop-00000300.mp4").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "videos" / "openloop-00000400.mp4")
    assert [one["name"] for one in pictures(tmp_path, {})["files"]] == [path.name]
    whole = picture(tmp_path, path.name, {})
    assert whole.status_code == 200 and whole.body == data and whole.media_type == "video/mp4"
    size = len(data)
    for asked, first, last in (("0-", 0, size - 1), ("10-19", 10, 19), (f"{size - 1}-", size - 1, size - 1),
                               (f"5-{size * 9}", 5, size - 1)):  # fmt: skip
        part = picture(tmp_path, path.name, {"range": f"bytes={asked}"})
        assert part.status_code == 206 and part.body == data[first : last + 1]
        assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
    assert picture(tmp_path, path.name, {"range": f"bytes={size}-"}).status_code == 416
    assert picture(tmp_path, path.name, {"range": "bytes=9-3"}).status_code == 416
    assert picture(tmp_path, path.name, {"range": "bytes=0-3,5-9"}).status_code == 200
    tag = whole.headers["etag"]
    assert picture(tmp_path, path.name, {"if-none-match": tag}).status_code == 304
    assert picture(tmp_path, path.name, {"range": "bytes=0-3", "if-range": '"other"'}).status_code == 200
    for name in (
        "best.mp4", "openloop-00000300.mp4", "openloop-00000400.mp4", "openloop-00000900.mp4", "../config.yaml",
        "openloop-00000100.mp4/..", "openloop-00000100.mp4\0", ".", "",
    ):  # fmt: skip
        with pytest.raises(MissingError):
            picture(tmp_path, name, {})


def test_a_video_has_the_context_of_half_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "SEARCH", 0.0)
    path = write_run(tmp_path, "a", [1.0], fields={"learner.batch_length": 24})
    write_report(path, 100)
    seen = Views(Runs([tmp_path]))
    seen.look()
    (name,) = seen.runs.by_id
    found = seen.health(name)
    assert found["pictures"]["context"] == 12 != found["newest"]["horizon"]["context"] == CONTEXT


def test_a_page_of_an_earlier_process_is_told_everything(tmp_path: Path) -> None:
    for updates in (100, 200):
        write_report(tmp_path, updates)
    reports = looked(tmp_path)
    cursor = answer(reports, {})["cursor"]
    _, serial, shown = cursor.split(".")
    for other in (f"00000000.{serial}.{shown}", "x", "999", "..", cursor + "0" * 30):
        assert len(answer(reports, {}, other)["trend"]) == 2 and answer(reports, {}, other)["newest"]
    (tmp_path / "health" / "report-00000200.json").unlink()
    reports.look()
    assert answer(reports, {}, cursor)["newest"]["updates"] == 100


def test_reports_are_bounded(tmp_path: Path) -> None:
    write_report(tmp_path, 100, actions={f"x{number}": 1.0 for number in range(500)} | {"ratio": 2.0})
    (newest,) = [one for _, one in looked(tmp_path).standing()]
    assert len(newest["actions"]) <= 64
    for updates in range(200, 200 + KEEP + 5):
        write_report(tmp_path, updates)
    (tmp_path / "health" / "report-00000199.json").write_text(" " * (1 << 21))
    assert len(looked(tmp_path).standing()) == KEEP and looked(tmp_path).damaged == 0
    (tmp_path / "health" / "report-00000900.json").write_text(" " * (1 << 21))
    assert looked(tmp_path).damaged == 1


def test_an_alert_of_a_run_that_ends_is_not_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts_module, "EVERY", 0.0)
    path = write_run(tmp_path, "a", [1.0])
    for updates in (100, 200, 300):
        write_report(path, updates, wrong=float(updates > 100))
    run = Run(path, "a")
    run.refresh()
    run.active = True
    book = Alerts()
    assert book.look({run.id: run}) and "Raise learner.batch_length" in str(list(book.raised.values()))
    run.active = False
    assert book.look({run.id: run}) and not book.raised
    assert all("the run has ended" in one["text"] for one in book.events if one["event"] == "gone")


def test_a_report_of_an_earlier_life_raises_no_alert(tmp_path: Path) -> None:
    path = write_run(tmp_path, "a", [1.0])
    for updates in (100, 200):
        write_report(path, updates, wrong=1.0)
    (path / LOCK).touch()
    run = Run(path, "a")
    run.refresh()
    assert not list(wrong_with(run, rules_of(run), run.logged_at))
    for updates in (300, 400):
        write_report(path, updates, wrong=1.0, time=run.began_at + updates)
    run.refresh()
    assert any(kind.startswith("world model: ") for kind, _ in wrong_with(run, rules_of(run), run.logged_at))
