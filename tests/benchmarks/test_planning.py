"""The planning benchmark runs and reports what it says."""

import json
from pathlib import Path

import numpy as np
import pytest

from actors.envs.point_reach import draw
from tests.benchmarks.planning import main, shown
from tests.world_models.jepa.small_vjepa2_ac import saved


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


def test_point_reach_is_scored_by_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(saved(tmp_path))
    main(["--reach", run, "--episodes", "2", "--models", "--planners", "random_shooting", "--json"])
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["model"] for row in rows] == ["vjepa2-ac", "vjepa2-ac untrained", "random actions", "oracle"]
    success = {row["model"]: row["success"] for row in rows}
    assert success["oracle"] >= 0.8 and success["random actions"] <= 0.2
    for row in rows:
        low, high = row["interval95"]
        assert 0 <= low <= row["success"] <= high <= 1
        assert len(row["protocol"]["seeds"]) == (2 if row["planner"] else 20)


def test_the_oracle_sees_where_the_goal_is() -> None:
    places = np.random.default_rng(0).random((50, 2), np.float32)
    np.testing.assert_allclose(shown(draw(places)), places, atol=0.01)
