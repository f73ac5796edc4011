"""A real browser, if there is one."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from threading import Timer
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CLOSING = 30.0  # seconds


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Debian's Chromium, without a window. Tests skip where it, or playwright, is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    others = set(psutil.Process().children(recursive=True))
    with sync_api.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        own = set(psutil.Process().children(recursive=True)) - others
        yield chromium
        hanging = Timer(CLOSING, _kill, [own])  # a chromium has been seen to spin for ever when it was closed
        hanging.start()
        chromium.close()
        hanging.cancel()


def _kill(processes: set[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
