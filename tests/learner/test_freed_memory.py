"""Memory that an update frees serves the next one."""

import subprocess
import sys

import pytest

CODE = """
import resource, torch
from learner.freed_memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
for _ in range(3):
    torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    command = [sys.executable, "-c", CODE.format(keep=keep)]
    return int(subprocess.run(command, capture_output=True, text=True, timeout=500, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_tensors_of_the_same_size_come_with_few_page_faults() -> None:
    """Few, since something small may be put where one was, and the next needs another place."""
    assert 2 * faults(keep=True) < faults(keep=False)
