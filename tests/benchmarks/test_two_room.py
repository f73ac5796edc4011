"""The TwoRoom benchmark runs and reports what it says."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.two_room import main
from tests.world_models.jepa import small_vjepa2_ac
from tests.world_models.latent import small as small_latent

pytestmark = pytest.mark.timeout(300)


def test_planners_are_scored_beside_those_that_know_the_door(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(small_vjepa2_ac.saved(tmp_path / "ac")), str(small_latent.saved(tmp_path / "latent"))]
    small = ["--episodes", "2", "--samples", "4", "--iterations", "1", "--horizon", "1", "--block", "2"]
    main(["--runs", *runs, *small, "--replan-every", "2", "--json"])
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    success = {row["model"]: row["success"] for row in rows}
    assert list(success) == [
        "vjepa2-ac", "vjepa2-ac untrained", "latent", "latent untrained", "straight line", "random actions", "oracle",
    ]  # fmt: skip
    assert success["oracle"] == 1 and success["random actions"] <= 0.03 and 0.1 <= success["straight line"] <= 0.3
    for row in rows:
        low, high = row["interval95"]
        assert 0 <= low <= row["success"] <= high + 1e-9 <= 1 + 1e-9
        assert len(row["protocol"]["seeds"]) == (2 if row["planner"] else 200)
