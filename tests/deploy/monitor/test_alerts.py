"""Each rule is raised by what it is for, and by nothing else."""

import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.monitor import alerts as alerts_module
from deploy.monitor.alerts import Alerts, read_webhook, rules_of, webhook, wrong_with
from deploy.monitor.run import Run
from deploy.reports.metrics import MetricsWriter
from deploy.stored.run_status import write_status
from deploy.wiring.baselines import PPOConfig
from deploy.wiring.claim import LOCK
from deploy.wiring.config import AlertsConfig, RunConfig
from deploy.wiring.config_file import save_config
from deploy.wiring.pretraining import IJEPARun
from tests.deploy.monitor.written_runs import add_episodes, write_run

LEARNED = [10.0 + 0.1 * (n % 5) for n in range(20)] + [10.0 + n for n in range(60)]


def wrong(path: Path, rules: AlertsConfig | None = None, after: float = 1.0) -> dict[str, str]:
    run = Run(path, path.name)
    run.refresh()
    return dict(wrong_with(run, rules or AlertsConfig(), time.time() + after))


def test_a_healthy_run_raises_nothing(tmp_path: Path) -> None:
    assert wrong(write_run(tmp_path, "a", LEARNED)) == {}
    assert wrong(write_run(tmp_path, "b", [20.0 * (n % 2) for n in range(100)])) == {}
    assert wrong(write_run(tmp_path, "c", [5.0] * 100)) == {}


def test_what_is_not_finite_is_named(tmp_path: Path) -> None:
    path = write_run(tmp_path, "a", LEARNED)
    with MetricsWriter(path, tensorboard=False) as writer:
        writer.metrics(9000, 900, {"train/loss/value": float("nan"), "train/entropy": float("nan")})
    assert wrong(path) == {"non-finite": "train/loss/value not finite at update 900"}
    assert wrong(path, AlertsConfig(non_finite=False)) == {}


def test_silence_is_a_stall(tmp_path: Path) -> None:
    path = write_run(tmp_path, "a", LEARNED)
    assert list(wrong(path, after=901)) == ["stall"] and wrong(path, AlertsConfig(stall_seconds=0), after=901) == {}


def test_a_supervisor_that_lives_hides_no_stall_and_a_new_process_is_none(tmp_path: Path) -> None:
    path, long_ago = write_run(tmp_path, "a", LEARNED), time.time() - 5000
    for name in ("metrics.jsonl", "scores.jsonl"):
        os.utime(path / name, (long_ago, long_ago))
    write_status(path, {"state": "training", "time": time.time()})
    assert list(wrong(path)) == ["stall"]
    (path / LOCK).write_text("1")  # it continues, and has not logged anything yet
    assert wrong(path) == {}
    begun = tmp_path / "b"
    begun.mkdir()
    (begun / LOCK).write_text("1")
    assert wrong(begun) == {}


def test_old_policies_and_dead_workers(tmp_path: Path) -> None:
    path = write_run(tmp_path, "a", LEARNED)
    quiet = {"seconds_since_report": 121.0, "idle": False}
    each = {
        "0": {"seconds_since_report": 1.0},
        "1": quiet,
        "2": {**quiet, "idle": True},
        "3": {"seconds_since_report": None},
    }
    write_status(path, {"snapshot": {"lag_seconds": 301}, "actors": {"each": each, "given_up": {"4": "it crashed"}}})
    found = wrong(path)
    assert found["lag"] == "the policies that act are 301 s old on average"
    assert found["dead workers"] == "actor 4 given up; actor 1 silent for over 120 s"
    assert wrong(path, AlertsConfig(lag_seconds=0, dead_seconds=0)) == {}


def test_a_score_that_collapses(tmp_path: Path) -> None:
    path = write_run(tmp_path, "a", LEARNED)
    add_episodes(path, [40.0] * 20, start=len(LEARNED))
    assert wrong(path) == {}, "it keeps more than half"
    add_episodes(path, [12.0] * 20, start=len(LEARNED) + 20)
    assert wrong(path) == {"score collapse": "the mean of 20 episodes has fallen from 59.5 to 12"}
    assert wrong(path, AlertsConfig(collapse=0.99)) == {} == wrong(path, AlertsConfig(collapse=0))


def test_rules_come_from_the_runs_configuration(tmp_path: Path) -> None:
    path = write_run(tmp_path, "a", [1.0], fields={"alerts.stall_seconds": 5.0})
    assert rules_of(Run(path, "a")) == AlertsConfig(stall_seconds=5.0)
    (path / "config.yaml").write_text("task: x\nalerts: {stall_seconds: often}\n")
    assert rules_of(Run(path, "a")) == AlertsConfig()
    own = AlertsConfig(stall_seconds=7.0)
    for config in (IJEPARun(alerts=own), PPOConfig(alerts=own)):
        save_config(config, path)
        assert rules_of(Run(path, "a")) == own
    with pytest.raises(ValueError, match="alerts.lag_seconds=-1 must not be negative"):
        RunConfig(alerts=AlertsConfig(lag_seconds=-1))


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted."""

    got: list[Any] = []

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[str]:
    Receiver.got = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/hook?secret=1"
        server.shutdown()
        serving.join()


def test_alerts_are_raised_once_sent_and_go_again(
    tmp_path: Path, receiver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts_module, "EVERY", 0.0)
    run = Run(write_run(tmp_path, "a", [1.0]), "a")
    run.refresh()
    run.active = True
    (tmp_path / "url").write_text(receiver)
    (tmp_path / "url").chmod(0o600)
    book = Alerts(webhook(read_webhook(tmp_path / "url"), print))
    assert not book.look({run.id: run})
    run.logged_at -= 1000
    assert book.look({run.id: run}) and not book.look({run.id: run})
    assert [one.kind for one in book.raised.values()] == ["stall"]
    run.logged_at += 1000
    assert book.look({run.id: run}) and not book.raised
    deadline = time.monotonic() + 20
    while len(Receiver.got) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(one["event"] for one in Receiver.got) == ["gone", "raised"]
    assert any(one["text"].startswith("a (gym:CartPole-v1): nothing has been written for") for one in Receiver.got)


@pytest.mark.parametrize(
    ("url", "why"), [("http://127.0.0.1:9/secret", "URLError"), ("http://127.0.0.1:secret/", "InvalidURL")]
)
def test_a_webhook_that_fails_is_noted_once_without_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, why: str
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(alerts_module, "_PAUSES", (0.0, 0.01, 0.01))
    post = webhook(url, notes.append)
    for _ in range(2):
        post({"text": "x"})
    deadline = time.monotonic() + 20
    while not notes and time.monotonic() < deadline:
        time.sleep(0.01)
    assert notes == [f"The webhook does not take alerts ({why})."]
    (tmp_path / "url").write_text("file:///etc/passwd")
    (tmp_path / "url").chmod(0o600)
    with pytest.raises(ValueError, match="must hold one URL"):
        read_webhook(tmp_path / "url")
    (tmp_path / "url").chmod(0o640)
    with pytest.raises(ValueError, match="Others may read the URL in .*chmod 600"):
        read_webhook(tmp_path / "url")
