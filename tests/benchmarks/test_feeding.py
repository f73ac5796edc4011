"""The benchmark of a learner that is fed by replay."""

import json

import pytest

from tests.benchmarks.feeding import main


def test_waits_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--stores", "redis_unix", "--updates", "8", "--steps", "2048", "--milliseconds", "30"]
    assert main([*few, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    at_once, behind = found["rows"]
    assert (at_once["write_behind"], behind["write_behind"]) == (0, 4)
    for row in found["rows"]:
        assert 0 <= row["fetch"] < 1 and 0 < row["write"] < 1 and row["waiting"] < 1 and row["median_ms"] >= 30
    assert found["snapshot_seconds"] > 0 and found["snapshot_mb"] > 10
