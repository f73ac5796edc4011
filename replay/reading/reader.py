"""Read-only access to stored replay, for `nexus replay inspect` and `--offline`."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from replay.reading.episodes import Source


class Finding(NamedTuple):
    """One line about the health of a stored replay; `good` is False if something is lost or will be, None for a mere
    note."""

    good: bool | None
    text: str


class Reader(Source, Protocol):
    """One stored shard, read without writing anything and without disturbing a run that uses it."""

    kind: str
    where: str
    length: int
    """Steps per item."""

    def facts(self) -> dict[str, float]:
        """`items chunks chunk_length gb`, and what else is known of `max_gb capacity inserted evicted oldest newest
        stale`; times are seconds since 1970. `gb` is the space that the shard takes, in 1e9 bytes."""
        ...

    def losses(self) -> list[str]:
        """What is known to be damaged or missing: visible without reading, or found in what has been read so far."""
        ...

    def health(self, verify: bool) -> Iterator[Finding]:
        """Findings, good and bad; `verify` reads everything that has a checksum."""
        ...

    def refresh(self) -> None:
        """Find what a run has written or evicted since. ValueError: the shard is gone; OSError: out of reach."""
        ...

    def close(self) -> None: ...
