"""Programs of other systems, whose output is read as it comes."""

import sys
from collections.abc import Generator

import pytest

from deploy.launch.programs import lines
from deploy.run_failed import RunFailedError


def test_a_command_may_complain_at_length() -> None:
    program = "import sys; print('x' * 200_000, file=sys.stderr); print('done')"
    assert list(lines([sys.executable, "-c", program], "a program")) == ["done\n"]


def test_a_command_that_fails_says_why() -> None:
    program = "import sys; print('first'); print('no such pod', file=sys.stderr); sys.exit(3)"
    seen = []
    with pytest.raises(RunFailedError, match="a program: no such pod"):
        for line in lines([sys.executable, "-c", program], "a program"):
            seen.append(line)
    assert seen == ["first\n"]


def test_whoever_stops_reading_ends_the_command() -> None:
    program = "import time\nwhile True: print('on', flush=True); time.sleep(0.1)"
    found = lines([sys.executable, "-c", program], "a program")
    assert isinstance(found, Generator) and next(found) == "on\n"
    found.close()
