"""The programs of other systems, asked with a time-out. Torch-free."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from tempfile import TemporaryFile

from deploy.run_failed import RunFailedError


def ask(
    command: Sequence[str], name: str, timeout: float, text: str = "", environment: Mapping[str, str] | None = None
) -> str:
    """What a command prints, given `text` as its input. RunFailedError, which calls it `name`: it fails, or takes
    longer than `timeout` seconds."""
    variables = {**os.environ, **(environment or {})}
    try:
        done = subprocess.run(command, env=variables, input=text, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise RunFailedError(f"{name} has not ended within {timeout:g} s.") from None
    if done.returncode:
        raise RunFailedError(f"{name}: {_last(done.stderr)}")
    return done.stdout


def lines(command: Sequence[str], name: str, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """The lines that a command prints until it ends, or nobody asks for more. RunFailedError: it fails."""
    variables = {**os.environ, **(environment or {})}
    with (
        TemporaryFile("w+") as errors,  # a pipe that nobody reads would fill up and stop the command
        subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout
        try:
            yield from process.stdout
            if process.wait():
                errors.seek(0)
                raise RunFailedError(f"{name}: {_last(errors.read())}")
        finally:
            process.terminate()


def _last(said: str) -> str:
    return (said.strip().splitlines() or ["no message"])[-1]
