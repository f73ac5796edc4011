"""Processes of a run that end while a test looks at them, or is about to end them, are no error."""

import subprocess

import psutil

from tests.integration.processes import end, having
from tests.integration.runs import wait_for


def test_a_process_that_has_just_ended_is_passed_over() -> None:
    with subprocess.Popen(["sleep", "300"]) as ended, subprocess.Popen(["sleep", "301"]) as alive:
        processes = [psutil.Process(ended.pid), psutil.Process(alive.pid)]
        ended.kill()
        ended.wait(300)
        wait_for(lambda: having(processes, "30") == processes[1:], "the other to have its command line")
        end(processes)
        assert not processes[1].is_running()
        alive.returncode = -9  # psutil has reaped it
