"""What a learner says of its GPU."""

import pytest
import torch

from learner.gpu import gpu_metrics


def test_a_cpu_says_nothing() -> None:
    assert gpu_metrics(torch.device("cpu")) == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_says_how_much_of_it_is_in_use() -> None:
    device = torch.device("cuda")
    kept = torch.zeros(1 << 26, device=device)  # 256 MB
    found = gpu_metrics(device)
    assert found["gpu/learner_memory_gb"] >= kept.nbytes / 1e9
    assert found["gpu/memory_gb"] >= found["gpu/learner_memory_gb"] and found["gpu/memory_limit_gb"] > 1
    assert 0 <= found.get("gpu/utilisation", 0.0) <= 1
