"""Settings every test shares."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.session import begin, end, is_owner, leftovers, shared

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: more threads only wait for each other
os.environ.setdefault("MPLBACKEND", "Agg")
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup, and what is ignored stays so in every process
begin()

# Time is measured in benchmarks, never asserted in tests.
settings.register_profile("nexus", deadline=None)
settings.load_profile("nexus")

TESTS = Path(__file__).parent
LONGEST = (
    "world_models/test_readmes.py", "integration", "benchmarks", "deploy", "contracts", "parity", "replay",
)  # fmt: skip
"""Files and folders, those that take longest first."""
LEFT = pytest.StashKey[list[str]]()
GRACE = 60.0  # seconds for processes to end


@pytest.fixture(scope="session", autouse=True)
def _shared_ends() -> Iterator[None]:
    yield
    shared.close()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several workers none is to begin a long file when the others are done; otherwise the order stays random."""
    if hasattr(config, "workerinput"):
        places = {TESTS / folder: place for place, folder in enumerate(LONGEST)}
        items.sort(
            key=lambda item: min(
                (places[up] for up in (item.path, *item.path.parents) if up in places), default=len(places)
            )
        )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """After the workers have ended: a session that leaves something behind has failed."""
    if is_owner():
        session.config.stash[LEFT] = leftovers(GRACE)
        end()
        if session.config.stash[LEFT] and not session.exitstatus:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left := config.stash.get(LEFT, []):
        terminalreporter.section("left behind by the tests", red=True)
        for line in left:
            terminalreporter.line(line)
