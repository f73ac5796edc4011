"""The benchmark of the learner on a GPU: what of it runs on a CPU."""

import json

import pytest
import torch

from tests.benchmarks.gpu import main


def test_the_plain_parts_run_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--device", "cpu", "--cases", "dmc_proprio/size1m", "--batch", "2", "4", "--updates", "2"]
    assert main([*few, "--precision-updates", "10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    [row], [precision] = found["rows"], found["precision"]
    assert row["losses_off_cpu"] == row["gradients_off_cpu"] == 0, "the same on the same device"
    assert row["launches"] > 500 and row["gflop"] > 0.01 and row["ms"] > 0 and row["scan_ms"] > 0
    assert len(precision["bfloat16"]) == len(precision["float32"]) == 10 and precision["largest_difference"] < 0.5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2 and "torch sees no CUDA device; --device cpu runs what a CPU can." in capsys.readouterr().out
