"""What the page says of workers, the limiter, replay and restarts."""

import fcntl
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.distributed.supervisor.scaling_log import AUTOSCALE, REQUEST, ScalingLog
from deploy.monitor.fleet import Fleet, tail_of
from deploy.monitor.run import Run
from deploy.reports.metrics import MetricsWriter
from deploy.stored.run_status import write_status
from deploy.wiring.claim import LOCK
from tests.deploy.monitor.written_runs import write_run


def status(at: float, **changes: Any) -> dict[str, Any]:
    """As a run of two actors writes it."""
    one = {"process": os.getpid(), "environments": [0, 2], "version": 10, "seconds_since_report": 0.5, "leaving": False,
           "idle": False, "waits_for": None, "rows": round(10 * at)}  # fmt: skip
    return {
        "state": "training", "time": 1000.0 + at, "frames": round(20 * at), "updates": round(4 * at),
        "train_ratio": 16.0,
        "supervisor": {"host": platform.node()}, "snapshot": {"version": 12, "lag_updates": 3.0, "lag_seconds": 1.0},
        "actors": {"target": 2, "running": 2, "environments": 4, "each": {"0": one, "1": {**one, "version": 12}},
                   "given_up": {}},
        "limiter": {"samples_per_insert": 15.5, "insert_waited_seconds": 0.0, "sample_waited_seconds": 0.0},
        "processes": {"learner": {"process": os.getpid(), "seconds_since_sign": 0.1}, "actor 0": {}},
        "replay": {"shards": {"shard-0": {"gb": 0.5, "max_gb": 1.0, "steps": 200, "age": 50.0}}, "down": []},
        "restarts": {"actor 0": 3}, "failures": {"crash": 1}, **changes,
    }  # fmt: skip


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Of a run that a process holds."""
    found = Fleet(Run(write_run(tmp_path, "a", [1.0]), "a"))
    with (found._run.path / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield found


def say(fleet: Fleet, **changes: Any) -> None:
    """The run writes its status; the monitor looks."""
    write_status(fleet._run.path, status(**changes))
    time.sleep(0.002)
    fleet._run.refresh()
    fleet.look()


def test_rates_workers_and_replay(fleet: Fleet) -> None:
    say(fleet, at=0.0)
    say(fleet, at=10.0)
    said = fleet.report()
    assert said["frames_per_second"] == 20 and said["updates_per_second"] == 4
    assert said["ratio"] == {"asked": 16.0, "actual": 15.5, "says": "neither side waits"}
    first, second = said["actors"]["each"]
    assert (first["steps_per_second"], first["environments"], first["behind"], first["restarts"]) == (10, 2, 2, 3)
    assert second["behind"] == 0 and [one["name"] for one in said["processes"]] == ["learner"]
    (shard,) = said["replay"]["shards"]
    assert (shard["gb"], shard["max_gb"], shard["age"]) == (0.5, 1.0, 50)


@pytest.mark.parametrize(
    ("insert", "sample", "words"),
    [
        (16.0, 0.0, "actors wait: the learner is behind (80% of their time)"),
        (0.0, 4.0, "the learner waits: actors are behind (40% of its time)"),
        (1.0, 0.5, "neither side waits"),
    ],
)
def test_the_limiter_in_words(fleet: Fleet, insert: float, sample: float, words: str) -> None:
    say(fleet, at=1.0)
    waited = {"samples_per_insert": 16, "insert_waited_seconds": insert, "sample_waited_seconds": sample}
    say(fleet, at=11.0, limiter=waited)
    assert fleet.limiter() == words


def test_a_run_that_fills_its_replay_says_so(fleet: Fleet) -> None:
    say(fleet, at=1.0, updates=0)
    assert fleet.limiter().startswith("filling replay")


def test_restarts_and_the_ends_of_logs(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "a"
    lines = [json.dumps({"process": "actor 0", "reason": f"died {n}", "time": float(n)}) for n in range(3)]
    (path / "restarts.jsonl").write_text("\n".join([*lines, "{torn"]))
    (path / "actor-0.log").write_text("x" * 20_000 + "\nTraceback (most recent call last):\nValueError: bad\n")
    said = fleet.report()
    assert [one["reason"] for one in said["restarts"]] == ["died 2", "died 1", "died 0"]
    assert (said["scaling"], said["autoscale"]) == ([], {})
    (log,) = said["logs"]
    assert log["name"] == "actor-0.log" and log["text"] == "Traceback (most recent call last):\nValueError: bad"
    assert tail_of(path / "nothing", 10) == ""


def test_changes_of_the_number_of_workers(fleet: Fleet, tmp_path: Path) -> None:
    log = ScalingLog(tmp_path / "a")
    log.add(1, 2, AUTOSCALE, "the learner waits for data 50% of its time")
    log.add(2, 5, REQUEST, "on request")
    say(fleet, at=1.0, autoscale={"on": True, "least": 1, "most": 9, "says": "measuring who waits"})
    said = fleet.report()
    assert [(one["before"], one["after"], one["by"]) for one in said["scaling"]] == [
        (2, 5, "request"), (1, 2, "autoscale"),
    ]  # fmt: skip
    assert said["autoscale"]["most"] == 9


def test_a_status_that_makes_no_sense_does_no_harm(fleet: Fleet) -> None:
    nonsense: list[dict[str, Any]] = [
        {"actors": 3}, {"limiter": []}, {"replay": {"shards": {"s": None}}}, {"processes": {"p": None}},
        {"time": "now"}, {"actors": {"each": {"0": None}}}, {"restarts": None},
        {"autoscale": "on"},
    ]  # fmt: skip
    for changes in nonsense:
        say(fleet, at=1.0, **changes)
        fleet.report()


def test_the_gpu_is_that_of_the_newest_line(tmp_path: Path) -> None:
    path = write_run(tmp_path, "gpu", [1.0])
    run = Run(path, "gpu")
    run.refresh()
    assert all(math.isnan(value) for value in Fleet(run).report()["gpu"].values())  # no GPU
    with MetricsWriter(path, tensorboard=False) as writer:
        writer.metrics(200, 20, {"gpu/memory_gb": 2.5, "gpu/memory_limit_gb": 80.0, "gpu/learner_memory_gb": 2.0})
    run.refresh()
    found = Fleet(run).report()["gpu"]
    assert found["memory_gb"] == 2.5 and math.isnan(found["utilisation"])
