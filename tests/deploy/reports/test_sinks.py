"""Weights & Biases and Trackio, the real packages, on this machine alone; skipped where they are not installed."""

import importlib.util
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.reports.sinks import KINDS, Sinks, identity
from deploy.wiring.config import LoggingConfig, RunConfig

LINE = {"train/loss/total": 2.5, "eval/mean": float("nan"), "episode/score": None}


def config(**logging: str) -> RunConfig:
    return replace(RunConfig(), logging=LoggingConfig(**logging))


@pytest.mark.parametrize("name", list(KINDS))
def test_a_missing_package_is_named(tmp_path: Path, name: str) -> None:
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(ValueError, match=rf'logging.{name} needs .*pip install "nexus-worlds\[{name}\]"'):
        Sinks(config(**{name: "project"}), tmp_path, print)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_loaded_or_written_by_default(tmp_path: Path) -> None:
    sinks = Sinks(RunConfig(), tmp_path, print)
    sinks.log(1, 1, LINE)
    sinks.close()
    assert list(tmp_path.iterdir()) == []


def test_a_run_keeps_its_name(tmp_path: Path) -> None:
    assert identity(tmp_path) == identity(tmp_path) and identity(tmp_path).startswith(f"{tmp_path.name}-")


def test_a_sink_that_fails_is_noted_and_left_out(tmp_path: Path) -> None:
    notes: list[str] = []
    sinks = Sinks(RunConfig(), tmp_path, notes.append)

    class Full:
        def log(self, line: object) -> None:
            raise OSError("the service is full")

        def close(self) -> None: ...

    sinks._open["full"] = Full()
    for _ in range(2):
        sinks.log(1, 1, LINE)
    assert notes == ["Nothing more is logged to full: the service is full"]


LIVES = """
import sys
from dataclasses import replace
from pathlib import Path
from deploy.reports.sinks import Sinks
from deploy.wiring.config import LoggingConfig, RunConfig
line = {"train/loss/total": 2.5, "eval/mean": float("nan"), "episode/score": None}
for frames in (100, 200):  # the second life continues the first
    logging = LoggingConfig(**{sys.argv[1]: "project"})
    sinks = Sinks(replace(RunConfig(), logging=logging), Path(sys.argv[2]), print)
    sinks.log(frames, frames // 10, line)
    sinks.close()
"""


def two_lives(name: str, logdir: Path, **variables: str) -> str:
    """What a program prints that logs to a sink in two lives of a run."""
    pytest.importorskip(name, reason=f'needs pip install "nexus-worlds[{name}]"')
    logdir.mkdir()
    command = [sys.executable, "-c", LIVES, name, str(logdir)]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_weights_and_biases_offline(tmp_path: Path) -> None:
    said = two_lives("wandb", tmp_path / "run", WANDB_MODE="offline").splitlines()
    names = {path.name for path in (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")}
    assert names == {f"run-{identity(tmp_path / 'run')}.wandb"}
    assert len(said) == 2 and all(line.startswith("Weights & Biases: ") for line in said)


def test_trackio_keeps_each_line(tmp_path: Path) -> None:
    said = two_lives("trackio", tmp_path / "run", TRACKIO_DIR=str(tmp_path / "store"))
    assert said.splitlines() == ["Trackio: trackio show --project project"] * 2
    with closing(sqlite3.connect(tmp_path / "store" / "project.db")) as base:
        rows = base.execute("select run_name, step, metrics from metrics order by step").fetchall()
    assert [step for _, step, _ in rows] == [100, 200] and {name for name, _, _ in rows} == {identity(tmp_path / "run")}
    assert all("train/loss/total" in str(metrics) for _, _, metrics in rows)
