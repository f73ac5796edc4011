"""The benchmark of shared batches says what it measured, and that shared updates are those of one process."""

import json

import pytest

from tests.benchmarks.joint_learner import main


def test_two_processes_with_two_parts_each_learn_what_one_learns(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--preset", "quick", "--updates", "2", "--processes", "2", "--accumulate", "2", "--compare", "--json"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["processes"] == report["accumulate"] == 2 and report["value"] == report["cpu_seconds"] > 0
    assert 0 < report["apart"] < 1e-6 and report["apart_of_the_way"] < 1e-3


def test_what_cannot_be_shared_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--processes", "3"])
    assert "make it a multiple of 3" in capsys.readouterr().err
