"""The environment of the chaos benchmark fails as often as it says, and records every failure before it happens."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from actors.config import EnvironmentConfig
from actors.envs import make
from actors.faults import BrokenEnvironmentError, raised
from tests.benchmarks import fleet_chaos_world
from tests.benchmarks.fleet import main, parts
from tests.benchmarks.fleet_chaos_world import CHAOS, LONGEST, SHORTEST, TASK


def test_failures_are_recorded_before_they_happen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"injected": str(tmp_path / "injected"), "calm": str(tmp_path / "calm"), "rate": 0.5}
    monkeypatch.setenv(CHAOS, json.dumps(settings | {"kinds": ["exception", "non_finite"]}))
    monkeypatch.setattr(fleet_chaos_world, "STEP", 0.0)
    environment = make(TASK, EnvironmentConfig())
    failed: Counter[str] = Counter()
    lengths = []
    for seed in range(60):
        if seed == 40:
            (tmp_path / "calm").touch()
        environment.reset(seed)
        steps = 0
        try:
            while not environment.step({"action": np.asarray(0, np.int32)}).is_last:
                steps += 1
            lengths.append(steps + 1)
        except Exception as error:
            assert seed < 40
            failed[error.kind if isinstance(error, BrokenEnvironmentError) else raised(error).kind] += 1
    environment.close()
    recorded = Counter(json.loads(line)["kind"] for line in (tmp_path / "injected").read_text().splitlines())
    assert recorded == failed and set(failed) == {"exception", "non_finite"} and 10 < failed.total() < 30
    assert min(lengths) >= SHORTEST and max(lengths) < LONGEST and len(lengths) == 60 - failed.total()


def test_the_parts_of_the_benchmark_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert "chaos" in parts() and "chaos_world" not in parts()
    assert main(["calm"]) == 2 and "chaos" in capsys.readouterr().err
