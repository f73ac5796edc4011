"""Processes of a run that end while a test looks at them, or is about to end them, are no error."""

import subprocess

import psutil
import pytest

from tests.integration.processes import end, having

pytestmark = pytest.mark.timeout(60)


def test_a_process_that_has_just_ended_is_passed_over() -> None:
    with subprocess.Popen(["sleep", "1000"]) as ended, subprocess.Popen(["sleep", "1001"]) as alive:
        processes = [psutil.Process(ended.pid), psutil.Process(alive.pid)]
        ended.kill()
        ended.wait(30)
        assert having(processes, "100") == processes[1:]
        end(processes)
        assert not processes[1].is_running()
        alive.returncode = -9  # psutil has reaped it
