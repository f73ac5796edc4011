"""Runs made by earlier commits continue, and what reads runs reads them: old_runs/README.md says how they were made."""

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.policy import load_policy
from deploy.stored.sources import open_sources
from tests.integration.runs import NEXUS, checkpoints, lines, run

OLD = Path(__file__).parent / "old_runs"
COMMANDS: dict[str, list[str]] = json.loads((OLD / "commands.json").read_text())
ARCHIVES = sorted(path.name for path in OLD.glob("*.tar.xz"))

FRAMES = "480"  # the old runs have 300; offline ones are those replayed, 32 an update


def nexus(directory: Path, *arguments: str) -> str:
    done = run(directory, [*NEXUS, *arguments])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stored(logdir: Path) -> dict[int, range]:
    readers = open_sources(str(logdir))
    try:
        return {stream: steps for reader in readers for stream, steps in reader.streams().items()}
    finally:
        for reader in readers:
            reader.close()


def counters(logdir: Path) -> dict[str, Any]:
    """Of the newest line of metrics."""
    newest = lines(logdir / "metrics.jsonl")[-1]
    return {key: newest[key] for key in ("frames", "updates")}


def assert_acts(logdir: Path) -> None:
    policy = load_policy(logdir)
    rng = np.random.default_rng(0)
    assert {policy(rng.uniform(-1, 1, 4).astype(np.float32)) for _ in range(20)} <= {0, 1}


@pytest.mark.parametrize("archive", ARCHIVES)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_run_of_an_earlier_commit_continues(tmp_path: Path, archive: str, name: str) -> None:
    with tarfile.open(OLD / archive) as packed:
        packed.extractall(tmp_path, filter="data")
    logdir = tmp_path / name
    logs = {file: (logdir / file).read_text() for file in ("metrics.jsonl", "scores.jsonl") if (logdir / file).exists()}
    before, steps, last = counters(logdir), stored(logdir), checkpoints(logdir)[-1]
    assert_acts(logdir)

    output = nexus(tmp_path, "train", *COMMANDS[name], "--frames", FRAMES)
    assert re.search(rf"Continuing {logdir} at 3\d\d frames, update {last}\.", " ".join(output.split())), output
    assert checkpoints(logdir)[-1] > last
    after = counters(logdir)
    assert after["frames"] > before["frames"] and after["updates"] > before["updates"]
    for file, text in logs.items():
        assert (logdir / file).read_text().startswith(text), f"{file} was begun anew"
    assert all(steps[stream].stop <= there.stop for stream, there in stored(logdir).items() if stream in steps)
    assert sum(map(len, stored(logdir).values())) >= sum(map(len, steps.values()))

    assert "trained: mean" in nexus(tmp_path, "eval", name, "--episodes", "1")
    assert "bad" not in nexus(tmp_path, "replay", "inspect", name)
    assert "episodes" in nexus(tmp_path, "replay", "export", name, "--out", "episodes")
    assert_acts(logdir)
