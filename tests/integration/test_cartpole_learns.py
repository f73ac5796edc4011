"""The whole system learns: what `make train` does, for several seeds. Minutes each, so marked slow."""

import json
import sys
from pathlib import Path

import pytest

from tests.integration.runs import run


@pytest.mark.slow
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cartpole_is_solved_in_local_mode(tmp_path: Path, seed: int) -> None:
    logdir = tmp_path / "run"
    arguments = ["train", "gym:CartPole-v1", "--preset", "quick", "--logdir", str(logdir), "--seed", str(seed)]
    done = run(tmp_path, [sys.executable, "-m", "deploy.cli", *arguments], timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads((logdir / "evaluation.json").read_text())
    assert outcome["trained"]["mean"] >= 450 > 100 > outcome["random"]["mean"]
    for line, path in (("curve:", "curve.png"), ("video:", "videos/best.mp4"), ("checkpoint:", "checkpoints/best")):
        assert (logdir / path).exists()
        assert f"{line:<12}{logdir / path}" in done.stdout
