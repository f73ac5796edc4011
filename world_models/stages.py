"""The stages of an update, such as observe and imagine, for whoever counts or times them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_watcher: Callable[[str], None] | None = None


def begin(stage: str) -> None:
    """What follows belongs to `stage`, until another one begins. It costs nothing unless stages are watched."""
    if _watcher is not None:
        _watcher(stage)


@contextmanager
def watched(watcher: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, `watcher` is told each stage that begins in this process. RuntimeError: another one is."""
    global _watcher
    if _watcher is not None:
        raise RuntimeError("The stages of this process are watched already; end that first.")
    _watcher = watcher
    try:
        yield
    finally:
        _watcher = None
