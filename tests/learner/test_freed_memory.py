"""Memory that an update frees serves the next one."""

import subprocess
import sys

import pytest

CODE = """
import resource, torch
from learner.freed_memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    command = [sys.executable, "-c", CODE.format(keep=keep)]
    return int(subprocess.run(command, capture_output=True, text=True, timeout=500, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_a_tensor_of_the_same_size_comes_without_page_faults() -> None:
    assert faults(keep=True) < 1000 < faults(keep=False)
