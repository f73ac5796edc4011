"""Progress of copying replay (export, import, offline runs), and what it leaves out."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from replay.counted import counted

T = TypeVar("T")
SAY = 10.0  # seconds between lines of progress
NAMED = 10  # damaged parts that are named individually


def left_out(parts: Sequence[str]) -> list[str]:
    """A line for each damaged part, up to a number of them; the rest are counted."""
    more = [f"Damaged and left out: {len(parts) - NAMED} more."] if len(parts) > NAMED else []
    return [f"Damaged and left out: {part.rstrip('.')}." for part in parts[:NAMED]] + more


def told(items: Iterable[T], done: str) -> Iterator[T]:
    """The same items, printing from time to time how many there were."""
    said = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - said > SAY:
            said = time.monotonic()
            print(f"{done} {counted(number, 'episode')} so far", flush=True)
