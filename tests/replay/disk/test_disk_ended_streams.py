"""Streams nobody writes to any more: what is left of them is as old as it is, and makes room first."""

from pathlib import Path

from replay.disk.disk_store import DiskStore
from tests.contracts.stores import rows
from tests.replay.disk.disk_process import CHUNK, store


def write(it: DiskStore, stream: int, steps: range) -> None:
    for first in range(steps.start, steps.stop, CHUNK):
        it.append(stream, first, rows(stream, first, min(CHUNK, steps.stop - first)))
        it._sealer.drain()


def test_an_open_chunk_keeps_its_place_over_lives(quick: Path) -> None:
    it = store(quick, capacity=100)
    write(it, 1, range(2 * CHUNK + 5))  # and then it has ended
    for life in range(6):
        write(it, 2, range(30 * life, 30 * (life + 1)))
        it.close()
        it = store(quick, capacity=100)
        items = it.items()[:, 0].tolist()
        assert items == sorted(items), f"life {life}: the ended stream is newer than what came later"
    assert set(items) == {2} and len(items) == 100


def test_the_rest_of_ended_streams_goes_first_when_the_disk_is_full(quick: Path) -> None:
    it = store(quick)
    for stream in range(6):
        write(it, stream, range(CHUNK))
    write(it, 9, range(8 * CHUNK))
    for gone in range(6 + 8 - 1):  # the newest chunk of all goes last
        assert it._lifecycle.make_room()
        it._sealer.drain()
        left = {path.name for path in (quick / "chunks").glob("*.rows")}
        assert len(left) == 13 - gone
        assert not any(f"{stream}-0.rows" in left for stream in range(gone + 1) if stream < 6), left
    it.close()
