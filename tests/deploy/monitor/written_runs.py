"""Run directories as real runs write them, in moments."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.reports.metrics import MetricsWriter
from deploy.wiring.config import RunConfig
from deploy.wiring.config_file import save_config
from deploy.wiring.fields import with_fields
from tests.integration.runs import environment


def write_run(
    folder: Path, name: str, scores: list[float], *, task: str = "gym:CartPole-v1", seed: int = 0, each: int = 100,
    evaluations: Mapping[int, float] | None = None, fields: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """A run with one training episode every `each` frames, ten frames an update, and its metrics."""
    path = folder / name
    path.mkdir(parents=True)
    config = with_fields(replace(RunConfig(), task=task, seed=seed, logdir=str(path)), fields or {})
    save_config(config, path)
    add_episodes(path, scores, each=each)
    with MetricsWriter(path, tensorboard=False) as writer:
        for frames, score in (evaluations or {}).items():
            writer.episode(frames, frames // 10, score=score, length=7, seed=1, kind="eval")
    return path


def add_episodes(path: Path, scores: list[float], *, each: int = 100, start: int = 0) -> None:
    """Further episodes after `start` of them."""
    with MetricsWriter(path, tensorboard=False) as writer:
        for number, score in enumerate(scores, start=start + 1):
            frames = number * each
            writer.episode(frames, frames // 10, score=score, length=each, seed=number, kind="train")
            writer.metrics(frames, frames // 10, {"train/loss/total": 10 / number, "fps/env": 50.0})


@contextmanager
def served(*arguments: str | Path, home: Path) -> Iterator[str]:
    """`nexus monitor` on a free port; its address."""
    command = [sys.executable, "-m", "deploy.cli", "monitor", *map(str, arguments), "--port", "0"]
    variables = environment() | {"HOME": str(home), "XDG_STATE_HOME": str(home / "state")}
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith("Nexus monitor: http://"), line
            yield line.split()[2]
        finally:
            process.terminate()
            process.wait(20)
