"""The learner's benchmark says what it measured, and runs where there are no environments."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.learner import main
from tests.benchmarks.machine import at_reference

KEYS = {
    "name", "value", "unit", "device", "versions", "threads", "precision", "batch", "imagination", "updates",
    "parameters", "cpu_seconds", "wall_seconds", "peak_gb", "matmul_gflops", "seconds_at_90", "gflop",
    "share_of_matmul", "instructions", "compiled",
}  # fmt: skip


def test_the_last_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--preset", "quick", "--updates", "1"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    assert report.keys() == KEYS
    assert [line.split()[0] for line in table] == list(report)
    assert report["name"] == "learner/quick" and report["value"] == report["cpu_seconds"] > 0
    assert report["batch"] == [8, 16] and report["peak_gb"] > 0.05
    used = report["gflop"] / report["cpu_seconds"] / report["matmul_gflops"]
    assert report["share_of_matmul"] == pytest.approx(used) and report["instructions"]
    assert report["seconds_at_90"] == pytest.approx(report["cpu_seconds"] * report["matmul_gflops"] / 90)


def test_two_checkouts_are_compared_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    here = Path(__file__).parents[2]
    assert main(["--preset", "quick", "--updates", "2", "--against", str(here)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rounds"] == 2 and report["ours"] > 0 and report["theirs"] > 0
    low, high = report["range"]
    assert low <= report["ratio"] <= high and report["against"] == here.name


def test_a_folder_that_is_no_checkout_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--against", str(tmp_path)])
    assert f"{tmp_path} has no tests/benchmarks/learner.py" in capsys.readouterr().err


def test_a_faster_core_is_not_a_faster_program() -> None:
    assert at_reference(0.5, 180) == at_reference(1.0, 90) == 1.0


def test_an_unknown_preset_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--preset", "dmc_propio"])
    assert "nearest: dmc_proprio" in capsys.readouterr().err


def test_it_needs_neither_ray_nor_environments() -> None:
    unwanted = "{'ray', 'gymnasium', 'mujoco', 'redis'}"
    code = f"import sys, tests.benchmarks.learner; print(sorted({unwanted} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=True)
    assert done.stdout.strip() == "[]"
