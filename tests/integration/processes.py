"""The processes of a run that a test started, Ray's own included, found by a mark in their environment."""

import contextlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.integration.runs import start

MARK = "PWD_OF_RUN"


def start_marked(directory: Path, arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Start a run in `directory`; everything that it starts inherits the mark."""
    os.environ[MARK] = str(directory)
    try:
        return start(directory, arguments)
    finally:
        del os.environ[MARK]


def members(directory: Path) -> list[psutil.Process]:
    """The processes of the runs started in `directory`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(directory):
                found.append(process)
        except psutil.Error:
            continue
    return found


def named(directory: Path, part: str) -> list[psutil.Process]:
    """Those with `part` in their command line."""
    return [process for process in members(directory) if any(part in word for word in process.cmdline())]


def end_all(directory: Path) -> None:
    """Kill whatever is left."""
    for process in members(directory):
        process.kill()
        with contextlib.suppress(psutil.Error):
            process.wait(10)
