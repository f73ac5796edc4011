"""Memory that an update frees serves the next one."""

import subprocess
import sys

import pytest

CODE = """
import resource, torch
from learner.freed_memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
def update():
    kept = [torch.ones(size << 20) for size in (10, 14, 12, 9)]
for _ in range(3):
    update()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    update()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    command = [sys.executable, "-c", CODE.format(keep=keep)]
    return int(subprocess.run(command, capture_output=True, text=True, timeout=500, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_the_tensors_of_an_update_come_with_few_page_faults() -> None:
    """Few, since something small may be put where one was, which then needs another place."""
    assert 4 * faults(keep=True) < faults(keep=False)
