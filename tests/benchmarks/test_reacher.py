"""The reacher benchmark runs and reports what it says."""

import json
from pathlib import Path

import pytest

from actors.envs.rendering import BACKENDS, try_backend
from tests.benchmarks.reacher import main
from tests.world_models.latent import small as small_latent


def test_planners_are_scored_beside_those_that_know_the_angles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not any(try_backend(name) == "" for name in BACKENDS):
        pytest.skip("neither EGL nor OSMesa draws here; install libosmesa6 to run this")
    run = small_latent.saved(tmp_path, history=2)
    small = ["--episodes", "2", "--samples", "4", "--iterations", "1", "--horizon", "1", "--every-step"]
    main(["--runs", str(run), *small, "--replan-every", "2", "--json"])
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    success = {row["model"]: row["success"] for row in rows}
    assert list(success) == ["latent", "latent untrained", "random actions", "no action", "oracle"]
    assert success["oracle"] == 1 and success["no action"] == 0
    for row in rows:
        low, high = row["interval95"]
        assert 0 <= low <= row["success"] <= high + 1e-9 <= 1 + 1e-9
        assert len(row["protocol"]["seeds"]) == (2 if row["planner"] else 100)
    assert rows[-1]["protocol"]["seeds"][:2] == rows[0]["protocol"]["seeds"], "the same episodes"
