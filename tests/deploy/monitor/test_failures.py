"""What goes wrong inside the monitor, and files that are not what their names say."""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from deploy.monitor import runs as runs_module
from deploy.monitor.curves import Question
from deploy.monitor.runs import Runs
from deploy.monitor.server import application
from deploy.monitor.views import Shown, Views
from replay.files.regular_file import open_regular
from tests.deploy.monitor.written_health import write_film, write_report
from tests.deploy.monitor.written_runs import write_run


def asked(views: Views, path: str) -> tuple[int, Any]:
    """Status and content of the answer of the application itself."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
             "headers": [(b"host", b"127.0.0.1")], "http_version": "1.1", "scheme": "http", "root_path": "",
             "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"}}  # fmt: skip
    try:
        asyncio.run(application(views)(scope, receive, send))
    except (ValueError, LookupError):  # for uvicorn's log
        assert sent[0]["status"] == 500
    return sent[0]["status"], json.loads(b"".join(one.get("body", b"") for one in sent))


@pytest.mark.parametrize("error", [ValueError("secret"), KeyError("secret"), LookupError("secret")])
def test_a_mistake_of_the_monitor_is_not_the_questions(tmp_path: Path, error: Exception) -> None:
    views = Views(Runs([tmp_path]))

    class Broken(dict[str, Any]):
        def values(self) -> Any:
            raise error

    views.runs.by_id = Broken()
    status, answer = asked(views, "/api/runs")
    assert status == 500 and type(error).__name__ in answer["error"] and "secret" not in answer["error"]
    assert asked(views, "/api/runs?filter=score%3Ehigh")[0] == 400
    assert asked(views, "/api/fleet?run=none")[0] == 404


NAMES = ("scores.jsonl", "metrics.jsonl", "status.json", "config.yaml", "notes.json", ".lock", "restarts.jsonl",
         "scaling.jsonl", "learner.log", "evaluation.json")  # fmt: skip


def test_a_fifo_blocks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "SEARCH", 0.0)
    write_run(tmp_path, "good", [1.0])
    other = tmp_path / "fifos"
    other.mkdir()
    for name in NAMES:
        os.mkfifo(other / name)
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(other / "scores.jsonl")
    views = Views(Runs([tmp_path]))
    for _ in range(2):
        views.look()
    assert {row["name"] for row in views.table(Shown())["runs"]} == {"good", "fifos"}
    (name,) = [run.id for run in views.runs.by_id.values() if run.name == "fifos"]
    assert views.fleet(name)["logs"] == [] and views.health(name)["updates"] == []
    assert views.metric("fps/env", "hours", 0, False, "", Shown())["lines"]


def test_a_folder_that_vanishes_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "SEARCH", 0.0)
    path = write_run(tmp_path / "runs", "a", [1.0, 2.0])
    write_report(path, 100)
    write_film(path, 100)
    views = Views(Runs([tmp_path / "runs"]))
    views.look()
    (name,) = views.runs.by_id
    assert views.health(name)["pictures"]["files"]
    shutil.rmtree(tmp_path / "runs")
    assert views.health(name)["pictures"]["files"] == []  # between two looks
    assert views.fleet(name)["restarts"] == []
    assert asked(views, f"/api/runs/{name}/videos/openloop-00000100.mp4")[0] == 404
    assert views.look()[1] == [name]
    assert asked(views, f"/api/health?run={name}")[0] == 404
    assert views.curves("gym:CartPole-v1", Question(), Shown())["groups"] == []
