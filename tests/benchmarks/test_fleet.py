"""The benchmark of the fleet finds its parts by the names of their modules."""

import json
import subprocess
import sys

import pytest

from tests.benchmarks.fleet import main, parts


def test_a_part_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    error = capsys.readouterr().err
    assert "'nonsense' is not a part" in error and all(part in error for part in parts())


def test_a_part_checks_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["coordinator", "--workers", "2"])
    assert "--workers is 4 or more" in capsys.readouterr().err


def test_help_names_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(part in out for part in parts())


def test_a_coordinator_is_measured_with_a_few_workers() -> None:
    arguments = ["coordinator", "--workers", "8", "--warm", "0.5", "--seconds", "2", "--json"]
    command = [sys.executable, "-m", "tests.benchmarks.fleet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode in (0, 1), done.stderr  # 1: slower than the goal, on a busy machine
    result = json.loads(done.stdout.splitlines()[-1])
    free, blocked = result["phases"]
    assert free["answers"]["report"]["count"] > 0 and blocked["held_back"]["count"] > 0
    assert free["learner"]["go"] > 0 and result["value"] > 0
