"""Where tests of the disk store keep their files."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.disk_stores import new_directory


@pytest.fixture
def quick() -> Iterator[Path]:
    """A directory where syncing costs little, if there is one."""
    directory = new_directory()
    yield directory
    while directory.exists():  # a store that was not closed may still be removing files
        shutil.rmtree(directory, ignore_errors=True)
