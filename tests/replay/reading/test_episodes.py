"""Episodes cut out of streams: real ones, ones that evictions and restarts broke, and any that Hypothesis thinks of."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.memory.checkpoint_reader import CheckpointReader
from replay.memory.memory_store import MemoryStore
from replay.reading.episodes import Found, append_episodes, cut, episodes, fresh_streams, newest_episodes
from replay.sharding import ShardedStore
from replay.step import Field, Rows, Schema
from tests.replay.cartpole import LENGTH, assert_same, play, schema, whole


def memory(capacity: int = 2000, chunk_length: int = 16) -> MemoryStore:
    return MemoryStore(schema(), length=LENGTH, capacity=capacity, chunk_length=chunk_length, streams=4)


def flags(first: str, last: str) -> Rows:
    """Rows of which `x` marks the first and the last ones of episodes."""
    return {
        "is_first": np.array([c == "x" for c in first]),
        "is_last": np.array([c == "x" for c in last]),
        "step": np.arange(len(first)),
    }


def spans(rows: Rows, *pieces: slice) -> tuple[list[tuple[int, int]], Found]:
    found = Found()
    given = ((piece.indices(len(rows["step"]))[0], {k: v[piece] for k, v in rows.items()}) for piece in pieces)
    out = [(first, len(one["step"])) for first, one in cut(given, found)]
    return out, found


def test_episodes_are_cut_across_pieces() -> None:
    rows = flags("x...x.xx..", "...x.x...x")
    for border in range(11):
        out, found = spans(rows, slice(0, border), slice(border, None))
        assert out == [(0, 4), (4, 2), (7, 3)]
        assert (found.whole, found.abandoned, found.headless, found.running) == (3, 1, 0, 0)


def test_partial_episodes_are_counted_by_what_they_lack() -> None:
    out, found = spans(flags("..x..x...", ".x....x.."), slice(None))
    assert out == [(5, 2)]
    assert found == Found(whole=1, abandoned=1, headless=2, running=0)
    assert found.describe() == "2 without their beginning, 1 broken off"
    out, found = spans(flags("x..x..", "..x..."), slice(None))
    assert out == [(0, 3)]
    assert found == Found(whole=1, running=1)


def test_steps_that_are_missing_in_between_break_an_episode() -> None:
    out, found = spans(flags("x.....x..", ".....x..x"), slice(0, 3), slice(4, None))
    assert out == [(6, 3)]
    assert (found.headless, found.whole) == (2, 1)


def test_an_episode_of_one_step_is_one() -> None:
    assert spans(flags("xx", "xx"), slice(None))[0] == [(0, 1), (1, 1)]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_what_is_cut_out_is_always_whole(marks: list[tuple[bool, bool]], borders: list[int]) -> None:
    n = len(marks)
    rows = {
        "is_first": np.array([first for first, _ in marks], bool),
        "is_last": np.array([last for _, last in marks], bool),
        "step": np.arange(n),
    }
    edges = sorted({0, n, *(border for border in borders if border <= n)})
    found = Found()
    pieces = [(a, {k: v[a:b] for k, v in rows.items()}) for a, b in zip(edges, edges[1:], strict=False)]
    out = list(cut(pieces, found))
    expected = []  # a first row, then the next marked row is a last one that is not also a first
    for i in np.flatnonzero(rows["is_first"]):
        later = [j for j in range(i, n) if rows["is_last"][j] or (j > i and rows["is_first"][j])]
        if later and rows["is_last"][later[0]] and (later[0] == i or not rows["is_first"][later[0]]):
            expected.append((i, later[0] + 1))
    assert [(first, first + len(one["step"])) for first, one in out] == expected
    assert found.whole == len(expected)
    for first, one in out:
        np.testing.assert_array_equal(one["step"], np.arange(first, first + len(one["step"])))


def test_a_store_gives_the_episodes_that_were_played() -> None:
    store = memory()
    play(store, steps=200)
    found = Found()
    got = list(episodes(store, found))
    ended = sum(rows["is_last"][-1] for rows in (store.read(stream, 199, 1) for stream in store.streams()))
    assert len(got) > 8 and found.running == 2 - ended and found.headless == found.abandoned == 0
    for one in got:
        rows = one.rows
        assert rows["is_first"].tolist() == [True] + [False] * (one.length - 1)
        assert rows["is_last"].tolist() == [False] * (one.length - 1) + [True]
        assert one.score == one.length - 1  # CartPole: 1 a step after the reset
        assert_same([store.read(one.stream, one.first, one.length)], [rows])


def test_evicted_beginnings_are_counted_and_left_out() -> None:
    store = memory(capacity=150)
    play(store, steps=400)
    found = Found()
    got = list(episodes(store, found))
    assert got and found.headless == 2
    for one in got:
        assert one.rows["is_first"][0] and one.rows["is_last"][-1]


def test_the_newest_episodes_are_those_that_ended_last() -> None:
    store = memory(capacity=9000)
    play(store, steps=3000)
    last, long = 3000, {key: np.concatenate([rows] * 60) for key, rows in store.read(0, 1, 40).items()}
    for key in ("is_first", "is_last"):  # one episode that is longer than what is looked at first
        long[key][:] = False
    long["is_first"][0] = long["is_last"][-1] = True
    store.append(0, last, long)
    everything = list(episodes(store, Found()))
    for number in (1, 7, 10_000):
        newest = newest_episodes(store, number, Found())
        ends = sorted((one.first + one.length, one.stream) for one in everything)[-number:]
        assert [(one.first + one.length, one.stream) for one in newest] == ends


@pytest.mark.parametrize("shards", [1, 3])
def test_what_is_appended_is_what_was_cut(shards: int) -> None:
    source, target = memory(), ShardedStore([memory() for _ in range(shards)])
    play(source)
    streams = fresh_streams(target)
    before = whole(source)
    number, steps = append_episodes(target, iter(before), streams)
    assert number == len(before) and steps == sum(len(one["reward"]) for one in before)
    key = lambda rows: rows["vector"].tobytes()  # noqa: E731
    assert_same(sorted(before, key=key), sorted(whole(target), key=key))
    assert sorted(len(shard.streams()) for shard in target.shards) == [1] * shards
    if shards == 1:
        assert_same(before, whole(target))
    latents = target.read(streams[0], 0, 5)
    assert not latents["deter"].any() and not latents["stoch"].any()
    assert not set(fresh_streams(target)) & set(streams)


def test_a_checkpoint_reads_like_the_store_it_was_made_of(tmp_path: Path) -> None:
    store = memory(capacity=500)
    play(store, steps=130)
    store.checkpoint(tmp_path / "one")
    play(store, steps=150, environments=3, seed=1)
    store.checkpoint(tmp_path / "two")
    snapshot = CheckpointReader(tmp_path / "two")
    assert snapshot.schema == store.schema and snapshot.length == LENGTH
    assert snapshot.streams() == store.streams()
    facts, stats = snapshot.facts(), store.stats()
    for key in ("items", "chunks", "queue", "inserted", "evicted"):
        assert facts[key] == stats[key], key
    for stream, steps in store.streams().items():
        assert_same([snapshot.read(stream, steps.start, len(steps))], [store.read(stream, steps.start, len(steps))])
        assert_same([snapshot.read(stream, steps.stop - 3, 2)], [store.read(stream, steps.stop - 3, 2)])
        with pytest.raises(ValueError, match=f"stream {stream} are not all in"):
            snapshot.read(stream, steps.start, len(steps) + 1)
    assert_same(whole(store), whole(snapshot))
    assert [finding.good for finding in snapshot.health(verify=True)] == [True]


def test_a_damaged_checkpoint_says_where(tmp_path: Path) -> None:
    store = memory()
    play(store, steps=150)
    store.checkpoint(tmp_path / "none")
    play(store, steps=150, seed=1)
    store.checkpoint(tmp_path / "one")
    file, later = sorted((tmp_path / "one").glob("rows-*"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    (finding,) = CheckpointReader(tmp_path / "one").health(verify=True)
    assert not finding.good and finding.text.startswith(f"{file.name} has")
    later.unlink()
    snapshot, before = CheckpointReader(tmp_path / "one"), whole(store)
    assert [text.split()[0] for text in snapshot.losses()] == [later.name]  # the other one nobody has read
    kept = whole(snapshot)
    known = [one["vector"].tobytes() for one in before]
    assert len(kept) < len(before) and all(one["vector"].tobytes() in known for one in kept)
    assert [text.split()[0] for text in snapshot.losses()] == [later.name, file.name]
    (tmp_path / "one" / "state.safetensors").unlink()
    with pytest.raises(ValueError, match="is damaged: state.safetensors cannot be read"):
        CheckpointReader(tmp_path / "one")


def test_steps_without_flags_have_no_episodes() -> None:
    bare = Schema(fields={"reward": Field(dtype=np.dtype(np.float32))}, latents={})
    store = MemoryStore(bare, length=2, capacity=10)
    with pytest.raises(ValueError, match=r"have no \['is_first', 'is_last', 'is_terminal'\]"):
        list(episodes(store, Found()))
