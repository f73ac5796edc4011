"""The planning benchmark runs and reports what it says."""

import json

import pytest

from tests.benchmarks.planning import main

pytestmark = pytest.mark.timeout(120)


def test_every_row_has_a_return_an_interval_and_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--episodes", "2", "--rounds", "0", "--models", "simple", "--planners", "mppi", "--json"]
    main(arguments)
    out = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert out.keys() >= {"name", "value", "unit", "device", "versions", "rows"}
    assert [(row["model"], row["planner"]) for row in out["rows"]] == [("simple", "mppi"), ("random actions", "")]
    for row in out["rows"]:
        low, high = row["interval95"]
        assert low < row["return"] < high and row["return"] < 0 and row["seconds_per_action"] > 0
        assert len(row["protocol"]["seeds"]) == 2
