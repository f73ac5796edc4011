"""What is left of a disk store whose process was killed: whole sequences, old or new latents, a line that says it."""

import signal
from pathlib import Path

import numpy as np

from replay.disk.disk_reader import DiskReader
from tests.contracts.stores import SCHEMA, check_sequences, latents, rng, rows
from tests.replay.disk.disk_lives import abandon, check, finished, process, reopened
from tests.replay.disk.disk_process import CHUNK, KEEP, LENGTH, STREAMS


def test_a_writer_killed_anywhere_leaves_whole_chunks(quick: Path) -> None:
    ends = [line.split() for line in finished("operations", quick)]
    assert len(ends) > 100 and {killed for _, killed, _ in ends[:-1]} == {"True"} and ends[-1][1] == "False"
    for number, _, acknowledged in ends:
        directory = quick / number
        it, said = reopened(directory, capacity=40)
        check(it)
        sealed = int(acknowledged) // CHUNK * CHUNK  # acknowledged when they were safe
        for stream in range(STREAMS if sealed else 0):
            assert it.streams()[stream].stop >= sealed, (number, said)
        assert len(it) <= 40
        assert not said or any(" streams again" in line or " stream again" in line for line in said), said
        stats = it.stats()
        abandon(it)
        again, _ = reopened(directory, capacity=40)  # nothing more is lost by opening
        assert {k: again.stats()[k] for k in ("items", "steps", "chunks")} == {
            k: stats[k] for k in ("items", "steps", "chunks")
        }
        stop = {stream: steps.stop for stream, steps in again.streams().items()}
        for stream in range(STREAMS):
            again.append(stream, stop.get(stream, 0), rows(stream, stop.get(stream, 0), 10))
        check(again)
        again.close()
        files = {path.name for path in (directory / "chunks").iterdir()}
        assert not [name for name in files if name.endswith((".tmp", ".damaged"))]
        assert len([name for name in files if name.endswith((".rows", ".open"))]) == again.stats()["chunks"]


def test_latents_killed_in_writing_are_old_or_new_or_declared_stale(quick: Path) -> None:
    ends = [line.split() for line in finished("latents", quick)]
    assert len(ends) > 5
    torn = 0
    for number, _, _ in ends:
        it, _ = reopened(quick / number)
        for stream, steps in it.streams().items():
            got, old = it.read(stream, steps.start, len(steps)), rows(stream, steps.start, len(steps))
            new = latents(1, len(steps), 99)
            for i in range(len(steps)):
                there = np.concatenate([got[key][i].astype(np.float64) for key in SCHEMA.latents])
                wanted = [
                    np.concatenate([source[i].astype(np.float64) for source in sources])
                    for sources in (
                        [old[key] for key in SCHEMA.latents],
                        [new[key][0] for key in SCHEMA.latents],
                        [np.zeros((len(steps), *field.shape)) for field in SCHEMA.latents.values()],
                    )
                ]
                assert any(np.array_equal(there, one) for one in wanted), (number, stream, i, there)
                torn += np.array_equal(there, wanted[2]) and not np.array_equal(there, wanted[0])
        batch, keys = it.sample(200, LENGTH, rng())
        check_sequences(batch, keys)
        stale = ((batch["deter"] == 0).all(1) & ((keys[:, 0, 0] * 31 + keys[:, 0, 1]) % 251 != 0)).sum()
        assert it.stats()["stale"] >= stale
    assert torn > 0, "no kill tore a row: the test does not reach what it is for"


def kept(directory: Path) -> dict[int, int]:
    """Where each stream goes on in the files, whoever has them open."""
    try:
        return {stream: steps.stop for stream, steps in DiskReader(directory).streams().items()}
    except ValueError:
        return {}  # nothing was kept yet


def killed_writer(way: str, directory: Path) -> tuple[list[tuple[int, int]], dict[int, int]]:
    """What a process had said when it was killed: which stream, where it goes on; and what it had kept shortly before,
    of each of its four streams more than when it began."""
    before = kept(directory)
    with process(way, directory) as writer:
        assert writer.stdout is not None
        acknowledged: list[tuple[int, int]] = []
        while True:
            for _ in range(200):
                stream, stop = map(int, writer.stdout.readline().split())
                acknowledged.append((stream, stop))
            safe = kept(directory)
            if all(safe.get(stream, 0) > before.get(stream, 0) for stream in range(4)):
                break
        writer.send_signal(signal.SIGKILL)
        for line in writer.stdout.read().splitlines():
            if len(words := line.split()) == 2:
                acknowledged.append((int(words[0]), int(words[1])))
        writer.wait(300)
    return acknowledged, safe


def test_a_killed_process_is_followed_by_the_next(quick: Path) -> None:
    lost = []
    for _ in range(3):
        acknowledged, safe = killed_writer("write", quick)
        it, said = reopened(quick, capacity=400)
        assert any("was not closed" in line for line in said), said
        check(it)
        last = dict(acknowledged)
        for stream in range(4):
            stop = it.streams()[stream].stop
            assert safe[stream] <= stop
            lost.append(last[stream] - stop)
        abandon(it)
    assert any(lost), "nothing was in memory: the test does not reach what it is for"


def test_open_chunks_of_a_killed_process_are_there_up_to_when_they_were_kept(quick: Path) -> None:
    goes_on = dict.fromkeys(range(4), 0)
    for _ in range(3):
        acknowledged, safe = killed_writer("fill", quick)
        it, said = reopened(quick, capacity=10**6, chunk_length=0)
        assert "4 chunks of 4 streams" in said[-1] and "steps of its last 0.1 s are lost" in said[-1], said
        check(it)
        assert not list((quick / "chunks").glob("*.rows"))
        for stream, steps in it.streams().items():
            stops = [stop for of, stop in acknowledged if of == stream]
            assert stops[0] == goes_on[stream] + 3, "a life goes on where the one before had kept it"
            assert steps.start == 0 and safe[stream] <= steps.stop <= stops[-1] + 3
            goes_on[stream] = steps.stop
        abandon(it)


def test_what_was_kept_outlives_a_kill_at_any_operation(quick: Path) -> None:
    ends = [line.split() for line in finished("keep", quick)]
    assert len(ends) > 100 and ends[-1][1] == "False"
    for number, _, acknowledged in ends:
        it, said = reopened(quick / number, capacity=20)
        check(it)
        for stream in range(2 if int(acknowledged) else 0):
            assert it.streams()[stream].stop >= int(acknowledged), (number, said)
        abandon(it)
        names = {path.name for path in (quick / number / "chunks").iterdir()}
        assert not [name for name in names if name.endswith((".tmp", ".damaged"))]
        assert len([name for name in names if name.endswith((".rows", ".open"))]) == it.stats()["chunks"]


def test_what_was_restored_is_kept_at_once(quick: Path) -> None:
    it, _ = reopened(quick / "one", keep_seconds=1000)
    for stream in range(2):
        it.append(stream, 0, rows(stream, 0, CHUNK + 3))
    it.checkpoint(quick / "checkpoint")
    it.restore(quick / "checkpoint")
    it._sealer.drain()
    abandon(it)
    it, _ = reopened(quick / "one")
    check(it)
    assert it.streams() == {0: range(CHUNK + 3), 1: range(CHUNK + 3)}


def test_an_open_file_older_than_its_sealed_chunk_does_no_harm(quick: Path) -> None:
    it, _ = reopened(quick, keep_seconds=KEEP)
    it.append(0, 0, rows(0, 0, CHUNK + 3))
    it._sealer.drain()
    old = (quick / "chunks" / "0-1.open").read_bytes()
    it.append(0, CHUNK + 3, rows(0, CHUNK + 3, CHUNK))
    it._sealer.drain()
    assert {path.name for path in (quick / "chunks").iterdir() if path.suffix != ".latents"} == {
        "0-0.rows", "0-1.rows", "0-2.open",
    }  # fmt: skip
    (quick / "chunks" / "0-1.open").write_bytes(old)  # as a kill between sealing and removing it leaves it
    abandon(it)
    it, _ = reopened(quick)
    check(it)
    assert it.streams() == {0: range(2 * CHUNK + 3)} and not (quick / "chunks" / "0-1.open").exists()
    (quick / "chunks" / "0-1.open").write_bytes(old)
    (quick / "chunks" / "0-2.open").unlink()
    abandon(it)
    it, _ = reopened(quick)
    check(it)
    assert it.streams() == {0: range(2 * CHUNK)}
    assert it.append(0, 2 * CHUNK, rows(0, 2 * CHUNK, 9)) == 9
