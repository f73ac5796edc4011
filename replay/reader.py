"""What stored replay can tell about itself to somebody who only looks: `nexus replay inspect`, `--offline`."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from replay.episodes import Source


class Finding(NamedTuple):
    """One line about the health of a stored replay; `good` is False where something is lost or will be, None where it
    is only worth knowing."""

    good: bool | None
    text: str


class Reader(Source, Protocol):
    """One stored shard, read without writing anything and without disturbing a run that uses it."""

    kind: str
    where: str
    length: int
    """Steps of an item."""

    def facts(self) -> dict[str, float]:
        """`items chunks chunk_length gb`, and what else is known of `max_gb capacity inserted evicted oldest newest
        stale`; times are seconds since 1970. `gb` is what the shard takes where it lies, in 1e9 bytes."""
        ...

    def losses(self) -> list[str]:
        """What is known to be damaged or missing: what shows without reading, and in what has been read so far."""
        ...

    def health(self, verify: bool) -> Iterator[Finding]:
        """What is good and what is not; `verify` reads everything that has a checksum."""
        ...

    def close(self) -> None: ...
