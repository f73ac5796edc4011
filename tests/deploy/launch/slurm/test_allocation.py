"""What a job makes of Slurm's signals."""

import os
import signal

import pytest

from deploy.launch.slurm.allocation import Allocation


@pytest.mark.parametrize(
    ("signals", "leaves", "stopped"),
    [
        ([], False, False),
        ([signal.SIGTERM], False, True),  # nexus stop
        ([signal.SIGUSR1], True, False),
        ([signal.SIGUSR1, signal.SIGTERM], True, False),  # the time limit came before the run had saved
        ([signal.SIGTERM, signal.SIGUSR1], True, True),
    ],
)
def test_what_a_job_was_told(signals: list[signal.Signals], leaves: bool, stopped: bool) -> None:
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGTERM)
    allocation = Allocation(120, {"SLURM_JOB_ID": "7"})
    with allocation.listening():
        for number in signals:
            os.kill(os.getpid(), number)
    assert (allocation.leaving > 0, allocation.stopped, allocation.over) == (leaves, stopped, leaves or stopped)
    assert (signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGTERM)) == before
