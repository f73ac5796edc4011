"""What holds for a replay on Redis beyond the store contract: many clients, one server, bounds and bytes."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from replay.config import SelectionConfig
from replay.memory.memory_store import MemoryStore
from replay.redis.redis_connection import Connection
from replay.redis.redis_layout import allocated, plan
from replay.redis.redis_script import SEGMENT, SOURCE
from replay.redis.redis_store import RedisStore
from replay.redis_url import parse
from replay.step import Field, Rows, Schema
from replay.store import GapError
from tests.contracts.stores import SCHEMA, check_sequences, fill, latents, rng, rows
from tests.replay.redis.redis_servers import RedisServer

Open = Callable[..., RedisStore]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Connection]:
    connection = Connection(parse(server.url_unix))
    connection.call("FLUSHALL")
    yield connection
    connection.close()


@pytest.fixture
def open_store(server: RedisServer, redis: Connection) -> Iterator[Open]:
    opened: list[RedisStore] = []

    def make(prefix: str = "run", schema: Schema = SCHEMA, **settings: Any) -> RedisStore:
        settings = {"length": 4, "capacity": 60, "chunk_length": 7, "streams": 8, "patience": 5.0, **settings}
        opened.append(RedisStore(server.url_unix, schema, prefix=prefix, **settings))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def keys_of(redis: Connection, pattern: str = "*") -> set[str]:
    found = redis.call("KEYS", pattern)
    assert isinstance(found, list)
    return {key.decode() for key in found if isinstance(key, bytes)}


# --- the server's index and the mirrors


@pytest.mark.parametrize(("length", "chunk_length", "capacity"), [(4, 3, 20), (1, 4, 9), (6, 16, 40), (3, 1, 12)])
def test_server_and_mirrors_keep_the_items_that_an_index_keeps(
    open_store: Open, redis: Connection, length: int, chunk_length: int, capacity: int
) -> None:
    sizes = {"length": length, "chunk_length": chunk_length, "capacity": capacity, "streams": 2}
    writer, reader = open_store(**sizes), open_store(**sizes)
    model = MemoryStore(SCHEMA, **sizes)  # type: ignore[arg-type]
    random = rng(chunk_length)
    position: dict[int, int] = {}
    for turn in range(150):
        stream, n = int(random.choice([0, 1, 2, 2, turn // 20 + 3])), int(random.integers(1, 3 * length))
        first = position.get(stream, 0)
        assert writer.append(stream, first, rows(stream, first, n)) == n
        model.append(stream, first, rows(stream, first, n))
        position[stream] = first + n
        if turn % 10 == 0:  # one lags, one is new
            for store in (reader, open_store(**sizes)):
                np.testing.assert_array_equal(store.items(), model.items())
                assert store.streams() == model.streams()
            here, there = writer.stats(), model.stats()
            for key in ("items", "steps", "streams", "chunks", "evicted", "inserted"):
                assert here[key] == there[key], key
            expected = {f"run:{kind}" for kind in ("counts", "life", "meta", "streams")}
            kept = {key for key in keys_of(redis) if ":log:" not in key and not key.endswith(":idle")}
            assert len(kept - expected) == 2 * here["chunks"], "chunks that nobody counts"
    np.testing.assert_array_equal(writer.items(), model.items())


def test_the_log_is_trimmed_and_a_mirror_that_lags_begins_anew(open_store: Open, redis: Connection) -> None:
    writer, reader = open_store(capacity=300), open_store(capacity=300)
    fill(writer, 50, streams=2)
    check_sequences(*reader.sample(20, 4, rng()))
    fill(writer, SEGMENT + 500, streams=2, block=1)
    assert keys_of(redis, "run:log:*") == {"run:log:2"}
    np.testing.assert_array_equal(reader.items(), writer.items())
    check_sequences(*reader.sample(20, 4, rng()))
    fill(writer, 3 * SEGMENT, streams=2, block=50)
    np.testing.assert_array_equal(reader.items(), open_store(capacity=300).items())


def test_a_mirror_that_is_far_behind_begins_anew_and_misses_nothing(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replay.redis.redis_mirror._EVENTS", 10)
    writer, reader = open_store(capacity=1000), open_store(capacity=1000)
    fill(writer, 10, streams=1)
    assert reader.available() == (7, 2)
    fill(writer, 50, streams=2)
    np.testing.assert_array_equal(reader.items(), writer.items())
    expected = {(stream, start) for stream in (0, 1) for start in range(1, 47, 4)}
    assert {tuple(key) for key in reader.sample(24, 4, rng())[1][:, 0].tolist()} == expected
    assert reader.available() == (94, 0)


def test_each_sampler_has_an_online_queue_of_what_came_after_it(open_store: Open) -> None:
    writer = open_store(capacity=1000)
    fill(writer, 12, streams=1)
    late = open_store(capacity=1000)
    assert writer.available() == (9, 2) and late.available() == (9, 0)
    assert open_store(capacity=1000, online=False).available() == (9, 0)
    writer.append(0, 12, rows(0, 12, 8))
    assert late.available() == (17, 2) and writer.available() == (17, 4)
    assert late.sample(2, 4, rng())[1][:, 0, 1].tolist() == [9, 13]
    assert writer.sample(2, 4, rng())[1][:, 0, 1].tolist() == [1, 5]


def test_the_first_look_of_a_sampler_comes_late_and_its_queue_is_full(open_store: Open) -> None:
    late, writer = open_store(capacity=1000), open_store(capacity=1000)
    fill(writer, 12, streams=2)
    assert late.available() == (18, 4)
    assert writer.stats()["queue"] == 0  # the writer made no mirror


def test_ids_of_63_bits(open_store: Open) -> None:
    store = open_store()
    ids = [2**63 - 1, 2**53 + 1, 2**53, 2**40]
    for stream in ids:
        block = rows(0, 0, 9)
        assert store.append(stream, 0, block) == 9
        assert store.append(stream, 0, block) == 0
    assert store.streams() == {stream: range(0, 9) for stream in ids}
    drawn = store.sample(200, 4, rng())[1]
    assert set(drawn[:, 0, 0].tolist()) == set(ids)
    with pytest.raises(GapError, match="Stream 9223372036854775807 continues at step 9, got step 11"):
        store.append(ids[0], 11, rows(0, 11, 1))


def test_blocks_of_many_streams_go_together(open_store: Open) -> None:
    store = open_store(capacity=1000)
    blocks = [(stream, first, rows(stream, first, 5)) for first in (0, 5, 10) for stream in range(4)]
    assert store.append_checked(blocks) == [5] * 12
    assert store.append_checked(blocks) == [0] * 12
    with pytest.raises(GapError) as gap:
        store.append_checked([(0, 15, rows(0, 15, 2)), (2, 17, rows(2, 17, 2)), (1, 15, rows(1, 15, 2))])
    assert gap.value.stream == 2
    assert store.append_checked([(stream, 15, rows(stream, 15, 2)) for stream in (0, 2, 1)]) == [0, 2, 0]
    check_sequences(*store.sample(50, 4, rng()))


def test_a_block_goes_in_pieces(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.redis.redis_store.PIECE", 5 * SCHEMA.row_dtype.itemsize)
    store = open_store(capacity=1000)
    assert store.append(3, 0, rows(3, 0, 23)) == 23
    assert store.append(3, 20, rows(3, 20, 9)) == 6
    np.testing.assert_array_equal(store.read(3, 0, 29)["step"], np.arange(29))


def test_latents_count_too_when_a_block_goes_in_pieces(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = Schema(fields=SCHEMA.fields, latents={"deter": Field(dtype=np.dtype(np.float16), shape=(100,))})
    store = open_store(capacity=1000, schema=schema)
    monkeypatch.setattr("replay.redis.redis_store.PIECE", 1000)
    calls: list[tuple[Any, ...]] = []
    insist = store._replay.insist
    monkeypatch.setattr(store._replay, "insist", lambda given: calls.extend(given) or insist(given))  # type: ignore[func-returns-value]
    given = {key: rows(3, 0, 23)[key] for key in schema.fields} | {"deter": np.ones((23, 100), np.float16)}
    assert store.append(3, 0, given) == 23
    assert sum(call[3] for call in calls) == 23 and max(call[5].nbytes for call in calls) <= 1000
    np.testing.assert_array_equal(store.read(3, 0, 23)["deter"], given["deter"])


# --- several replays, several settings


def test_replays_of_different_prefixes_do_not_touch_each_other(open_store: Open, redis: Connection) -> None:
    one, other = open_store("run"), open_store("run:c")  # the second is what keys of the first look like
    fill(one, 300, streams=2)
    fill(other, 17, streams=3)
    seen = other.items()
    one.clear()
    assert len(one) == 0 and len(other) == len(seen) and not keys_of(redis, "run:c:0*")
    np.testing.assert_array_equal(other.items(), seen)
    check_sequences(*other.sample(30, 4, rng()))
    fill(one, 30, streams=2)
    other.clear()
    check_sequences(*one.sample(30, 4, rng()))
    assert {key.rsplit(":", 1)[1] for key in keys_of(redis, "run:c:*") if key.count(":") == 2} == {
        "counts", "life", "meta",
    }  # fmt: skip


def test_clearing_is_seen_by_all(open_store: Open) -> None:
    one, other = open_store(), open_store()
    fill(one, 20)
    check_sequences(*other.sample(5, 4, rng()))
    one.clear()
    assert other.available() == (0, 0) and other.streams() == {}
    with pytest.raises(GapError, match="continues at step 0"):
        other.append(0, 20, rows(0, 20, 1))
    other.append(0, 0, rows(5, 0, 9))  # of the same name as before, with other content
    batch, keys = one.sample(30, 4, rng())
    np.testing.assert_array_equal(batch["stream"], 5)
    np.testing.assert_array_equal(batch["step"], keys[:, :, 1])


def test_a_replay_of_another_schema_or_length_is_refused(open_store: Open) -> None:
    open_store()
    with pytest.raises(ValueError, match="replay of another length under run: 4, this run has 5; give this run a pre"):
        open_store(length=5)
    with pytest.raises(ValueError, match="another schema"):
        open_store(schema=Schema(fields=SCHEMA.fields, latents={}))
    with pytest.raises(ValueError, match="needs a prefix"):
        open_store(prefix="")
    assert open_store(chunk_length=100).chunk_length == 7  # the layout stays as it was made


def test_capacities_may_change(open_store: Open) -> None:
    said: list[str] = []
    first = open_store(capacity=60, streams=2)
    fill(first, 60, streams=2)
    assert len(first) == 60
    larger = open_store(capacity=100, streams=2, note=said.append)
    assert len(said) == 1 and "now keeps 100 sequences" in said[0]
    fill(larger, 120, streams=2)
    assert len(first) == 100
    check_sequences(*first.sample(50, 4, rng()))
    smaller = open_store(capacity=20, streams=1)
    smaller.append(0, 120, rows(0, 120, 10))
    assert len(smaller) == 20 and smaller.stats()["chunks"] <= 5
    for store in (first, larger, smaller):
        check_sequences(*store.sample(50, 4, rng()))


def test_a_checkpoint_is_a_mark(open_store: Open, redis: Connection, tmp_path: Any) -> None:
    said: list[str] = []
    store = open_store(note=said.append)
    fill(store, 30)
    store.checkpoint(tmp_path / "saved")
    fill(store, 40)
    other = open_store(note=said.append)
    other.restore(tmp_path / "saved")
    assert len(other) == len(store) and not said
    with pytest.raises(ValueError, match="has other settings"):
        open_store("else", chunk_length=5).restore(tmp_path / "saved")
    with pytest.raises(ValueError, match="has another replay under else"):
        open_store("else2").restore(tmp_path / "saved")
    mark = tmp_path / "saved" / "index.json"
    whole = mark.read_text()
    mark.write_text(json.dumps(json.loads(whole) | {"id": "0" * 16}))
    with pytest.raises(ValueError, match="damaged"):
        other.restore(tmp_path / "saved")
    store.clear()
    mark.write_text(whole)
    with pytest.raises(ValueError, match="cleared, or the server restarted without its data"):
        other.restore(tmp_path / "saved")


# --- the server forgets


def test_a_script_that_the_server_forgot_is_loaded_again(open_store: Open, redis: Connection) -> None:
    store = open_store(capacity=1000)
    fill(store, 20)
    redis.call("SCRIPT", "FLUSH")
    assert store.append_checked([(0, 20 + i, rows(0, 20 + i, 1)) for i in range(9)]) == [1] * 9
    redis.call("SCRIPT", "FLUSH")
    check_sequences(*store.sample(30, 4, rng()))


def test_a_server_that_lost_everything_gets_a_new_replay(open_store: Open, redis: Connection) -> None:
    said: list[str] = []
    store = open_store(note=said.append)
    fill(store, 20)
    check_sequences(*store.sample(30, 4, rng()))
    redis.call("FLUSHALL")
    with pytest.raises(GapError, match="continues at step 0, got step 20"):
        store.append(0, 20, rows(0, 20, 1))
    assert len(said) == 1 and "has lost the replay run" in said[0]
    fill(store, 9, streams=1)
    check_sequences(*store.sample(30, 4, rng()))
    redis.call("FLUSHALL")
    assert store.available() == (0, 0) and len(said) == 2


def test_lost_latents_are_zeros_and_counted(open_store: Open, redis: Connection) -> None:
    store = open_store(capacity=1000, online=False)
    fill(store, 14, streams=1)
    redis.call("DEL", f"run:l:{0:016x}:1")
    batch, keys = store.sample(60, 4, rng())
    lost = keys[:, 0, 1] >= 7
    assert lost.any() and store.stats()["stale"] == lost.sum()
    assert (batch["deter"][lost] == 0).all() and (batch["stoch"][lost] == 0).all()
    mark = (keys[:, 0, 1] % 251)[:, None]
    np.testing.assert_array_equal(batch["deter"][:, :1], np.where(lost[:, None], 0, mark))
    again = np.array([[[0, 8], [0, 9]]])
    assert store.write_back(again, {"stoch": np.full((1, 2, 2), 3, np.int8)}) == 2  # half a row is none
    assert (store.read(0, 7, 7)["stoch"] == 0).all()
    assert store.write_back(again, latents(1, 2, 5)) == 2
    read, before = store.read(0, 7, 7), store.stats()["stale"]
    assert read["deter"][:, 0].tolist() == [0, 5, 5, 0, 0, 0, 0]
    store.read(0, 8, 2)
    assert store.stats()["stale"] == before


def test_chunks_that_somebody_deleted_are_named(open_store: Open, redis: Connection) -> None:
    said: list[str] = []
    store = open_store(capacity=1000, online=False, note=said.append)
    fill(store, 40, streams=1)
    redis.call("DEL", f"run:c:{0:016x}:2")
    for seed in range(10):
        keys = store.sample(20, 4, rng(seed))[1]
        assert not ((keys[..., 1] >= 14) & (keys[..., 1] < 21)).any()
    assert said and all("lacks bytes of stream 0" in line for line in said) and len(said) <= 2
    with pytest.raises(ValueError, match="lacks bytes of steps 10 to 19 of stream 0"):
        store.read(0, 10, 10)
    assert len(store.read(0, 0, 14)["step"]) == 14


# --- memory


def test_sizes_of_values() -> None:
    mb = 1 << 20
    assert [allocated(n) for n in (mb - 10, mb - 9, mb + mb // 4 - 10, 3 * mb - 10)] == [
        mb, mb + mb // 4, mb + mb // 4, 3 * mb,
    ]  # fmt: skip


@pytest.mark.parametrize("step_bytes", [1000, 4000, 16500])
def test_computed_chunks_waste_little(step_bytes: int) -> None:
    schema = one_vector(step_bytes)
    sizes = plan(schema, length=65, chunk_length=0, capacity=1_000_000, capacity_gb=None, streams=16)
    assert sizes.slot_bytes < 1.012 * sizes.chunk_length * schema.nbytes
    assert sizes.nbytes < 1.06 * schema.nbytes * 1_000_000


def one_vector(step_bytes: int) -> Schema:
    return Schema(
        fields={"vector": Field(dtype=np.dtype(np.float32), shape=(step_bytes // 4 - 1,))},
        latents={"deter": Field(dtype=np.dtype(np.int8), shape=(4,))},
    )


def test_memory_is_as_estimated(open_store: Open, redis: Connection) -> None:
    schema, streams, n = one_vector(1000), 4, 16
    before = used_memory(redis)
    store = open_store(schema=schema, length=20, capacity=20_000, chunk_length=0, streams=streams)
    block: Rows = {"vector": np.zeros((n, 249), np.float32), "deter": np.zeros((n, 4), np.int8)}
    for first in range(0, 24_000 // streams, n):
        store.append_checked([(stream, first, block) for stream in range(streams)])
    taken, stats = used_memory(redis) - before, store.stats()
    assert stats["items"] == 20_000 and stats["gb"] <= stats["max_gb"] == store.max_gb
    assert taken < 1.02 * stats["gb"] * 1e9
    assert taken < 1.05 * schema.nbytes * stats["steps"] + streams * store.chunk_length * schema.nbytes


def used_memory(redis: Connection) -> int:
    redis.call("SCRIPT", "LOAD", SOURCE)
    text = redis.call("INFO", "memory")
    assert isinstance(text, bytes)
    return int(next(line for line in text.decode().splitlines() if line.startswith("used_memory:")).split(":")[1])


def test_a_replay_larger_than_the_server_is_refused(open_store: Open, redis: Connection) -> None:
    redis.call("CONFIG", "SET", "maxmemory", "50mb")
    try:
        with pytest.raises(ValueError, match="takes 0.1.. GB, Redis unix.* has room for 0.05.* GB; lower replay.capac"):
            open_store(schema=one_vector(1000), capacity=100_000, length=20)
        assert not keys_of(redis)
        open_store(schema=one_vector(1000), capacity=20_000, length=20)
    finally:
        redis.call("CONFIG", "SET", "maxmemory", "0")


# --- priorities


def test_priorities_outlive_a_mirror_that_begins_anew(open_store: Open) -> None:
    selection = SelectionConfig(priority=1.0, zero_on_sample=False, maxfrac=1.0, exponent=1.0, initial=0.0)
    writer, learner = open_store(capacity=300), open_store(capacity=300, selection=selection, online=False)
    fill(writer, 40, streams=2)
    keys = np.array([[[1, 10], [1, 11], [1, 12], [1, 13]]])
    assert learner.set_priority(keys, np.array([[0, 0, 0, 1.0]])) == 4
    assert set(learner.sample(40, 4, rng())[1][:, 0, 1].tolist()) == {10, 11, 12, 13}
    open_store(capacity=400)  # the mirror has no room for more, and is made anew
    batch, keys = learner.sample(40, 4, rng())
    assert (keys[:, 0, 0] == 1).all() and set(keys[:, 0, 1].tolist()) == {10, 11, 12, 13}
    check_sequences(batch, keys)
