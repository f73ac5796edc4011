"""The client against real Redis servers."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from replay.redis.redis_connection import Connection, OutOfMemoryReply, ReplyError, ShardDownError
from tests.replay.redis.proxies import Listener
from tests.replay.redis.redis_servers import RedisServer, connected


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(tcp=True) as running:
        yield running


@pytest.fixture(params=["unix", "tcp"])
def connection(server: RedisServer, request: pytest.FixtureRequest) -> Iterator[Connection]:
    with connected(server.url_unix if request.param == "unix" else server.url_tcp) as connection:
        connection.call("FLUSHALL")
        yield connection


def blob(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, n, dtype=np.uint8)


def test_replies_of_every_kind(connection: Connection) -> None:
    assert connection.call("SET", b"a", "1") == b"OK"
    assert connection.call("INCRBY", "a", np.int64(-3)) == -2
    assert connection.call("GET", "a") == b"-2"
    assert connection.call("GET", "none") is None
    assert connection.call("SET", "empty", b"") == b"OK"
    assert connection.call("GET", "empty") == b""
    assert connection.call("LRANGE", "none", 0, -1) == []
    nested = connection.call("EVAL", "return {1, {'x', false}, redis.error_reply('BAD day')}", 0)
    assert isinstance(nested, list) and nested[:2] == [1, [b"x", None]]
    assert isinstance(nested[2], ReplyError) and nested[2].code == "BAD"
    assert connection.call("BLPOP", "none", "0.01") is None  # the empty array
    with pytest.raises(ReplyError, match="unknown command") as caught:
        connection.call("NEXUS")
    assert caught.value.code == "ERR"
    with pytest.raises(ReplyError, match="BAD \ufffd"):
        connection.call("EVAL", b"return redis.error_reply('BAD \xff')", 0)
    assert connection.call("PING") == b"PONG"


def test_pipelines_keep_refusals_in_their_places(connection: Connection) -> None:
    assert connection.pipeline([]) == []
    replies = connection.pipeline([("SET", "a", "x"), ("LPUSH", "a", "y"), ("GET", "a")])
    assert (replies[0], replies[2]) == (b"OK", b"x")
    assert isinstance(replies[1], ReplyError) and replies[1].code == "WRONGTYPE"


def test_more_pieces_than_one_message_can_hold(connection: Connection) -> None:
    values = [blob(n, n) for n in (*range(8100, 8300), *range(16300, 17500))]
    assert connection.pipeline([("SET", n, value) for n, value in enumerate(values)]) == [b"OK"] * len(values)
    assert connection.pipeline([("GET", n) for n in range(len(values))]) == [value.tobytes() for value in values]


@pytest.mark.parametrize("n", [0, 1, 8191, 8192, 65533, 65534, 65535, 65536, 5_000_000])
def test_values_of_any_size(connection: Connection, n: int) -> None:
    value = blob(n)
    for given in (value, value.tobytes(), bytearray(value), value.data):
        assert connection.pipeline([("SET", "a", given), ("GET", "a"), ("STRLEN", "a")]) == [b"OK", value.tobytes(), n]


def test_arrays_of_any_kind_go_out_as_their_bytes(connection: Connection) -> None:
    packed = np.zeros((2, 1000), np.dtype([("x", "<f4", 3), ("y", "?")]))
    packed["x"], packed["y"] = 1.5, True
    strided = np.arange(30_000.0).reshape(100, 300)[:, ::2]
    for array in (packed, packed[0, :3], packed[:, ::3], strided, strided.T, np.ones(1, np.float32), packed[:, :0]):
        assert connection.pipeline([("SET", "a", array), ("GET", "a")])[1] == array.tobytes()


@pytest.mark.parametrize("window", [1, 10_000, 1 << 20, 1 << 30])
def test_ranges_land_in_place(connection: Connection, window: int) -> None:
    rng = np.random.default_rng(3)
    values = {name: blob(n, n) for name, n in (("small", 40), ("middle", 70_000), ("large", 3_000_000))}
    connection.pipeline([("SET", name, value) for name, value in values.items()])
    sizes = rng.choice([0, 1, 20, 4096, 16_384, 16_385, 65_000, 900_000], 80)
    names = rng.choice([*values, "none"], 80)
    starts = rng.integers(0, 60_000, 80)
    out = np.full(sum(sizes) + 80, 7, np.uint8)
    at = np.cumsum(sizes + 1) - sizes - 1  # one byte that nobody may touch behind each
    requests = [
        (str(name) if i % 2 else str(name).encode(), int(start), out[a : a + n].data)
        for i, (name, start, a, n) in enumerate(zip(names, starts, at, sizes, strict=True))
    ]
    lengths = connection.get_ranges(requests, window)
    expected = np.full_like(out, 7)
    for name, start, a, n, length in zip(names, starts, at, sizes, lengths, strict=True):
        part = values.get(str(name), blob(0))[start : start + n]
        expected[a : a + len(part)] = part
        assert length == len(part)
    np.testing.assert_array_equal(out, expected)
    assert connection.get_ranges([]).tolist() == []


def test_a_refused_range_leaves_nothing_behind(connection: Connection) -> None:
    value = blob(500_000)
    connection.pipeline([("SET", "a", value), ("LPUSH", "list", "x")])
    out = np.zeros((3, 500_000), np.uint8)
    requests = [("a", 0, out[0].data), ("list", 0, out[1].data), ("a", 0, out[2].data)]
    assert connection.get_ranges(requests).tolist() == [500_000, -1, 500_000]
    np.testing.assert_array_equal(out, [value, np.zeros_like(value), value])
    out[:] = 0
    connection.call("ACL", "SETUSER", "narrow", "reset", "on", ">word", "~a", "+@all")
    connection.call("AUTH", "narrow", "word")
    with pytest.raises(ReplyError, match="NOPERM"):
        connection.get_ranges(requests)
    np.testing.assert_array_equal(out[0], value)
    assert connection.get_ranges(requests[::2]).tolist() == [500_000, 500_000]
    np.testing.assert_array_equal(out[2], value)
    assert connection.epoch == 0


def test_a_full_server_is_told_apart() -> None:
    with RedisServer(maxmemory="4mb") as server, connected(server.url_unix) as connection:
        for i in range(100):
            reply = connection.pipeline([("SET", i, blob(100_000))])[0]
            if reply != b"OK":
                break
        assert isinstance(reply, OutOfMemoryReply) and reply.code == "OOM"
        for script in ("return redis.call('SET', 'x', ARGV[1])", "return redis.pcall('SET', 'x', ARGV[1])"):
            with pytest.raises(OutOfMemoryReply):
                connection.call("EVAL", script, 0, blob(100_000))
        assert connection.call("DEL", *range(i)) == i
        assert connection.call("SET", "x", "y") == b"OK"


def test_databases_are_apart(server: RedisServer) -> None:
    with connected(server.url_tcp + "/1") as one, connected(f"{server.url_unix}?db=2") as two:
        one.call("SET", "where", "one")
        assert two.call("GET", "where") is None
        assert one.call("CLIENT", "GETNAME") == b"nexus"
    with pytest.raises(ValueError, match="no database 99"), connected(server.url_tcp + "/99") as three:
        three.call("PING")


def test_threads_take_turns(connection: Connection) -> None:
    values = {name: blob(300_000, seed) for seed, name in enumerate(("a", "b"))}
    connection.pipeline(list(("SET", name, value) for name, value in values.items()))
    failed: list[object] = []

    def work(name: str) -> None:
        out = np.zeros(300_000, np.uint8)
        for i in range(50):
            connection.get_ranges([(name, 0, out[:200_000].data), (name, 200_000, out[200_000:].data)])
            if not (out == values[name]).all() or connection.call("ECHO", f"{name}{i}") != f"{name}{i}".encode():
                failed.append((name, i))
            out[:] = 0

    threads = [threading.Thread(target=work, args=(name,)) for name in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed and not any(thread.is_alive() for thread in threads)


def test_waiting_for_another_thread_ends(server: RedisServer) -> None:
    with (
        connected(server.url_unix, timeout=0.1, patience=0.3) as connection,
        connection._lock,
        pytest.raises(TimeoutError, match="GET waited 0.5 s for another thread's exchange"),
    ):
        connection.call("GET", "a")


def test_an_interrupted_exchange_answers_nothing_else() -> None:
    with RedisServer() as server, connected(server.url_unix) as connection:
        connection.pipeline([("SET", "a", "old"), ("SET", "b", "new")])

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            server.pause()
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.2)  # within, for a machine that stalls so long
                connection.call("GET", "a")
        finally:
            signal.signal(signal.SIGALRM, before)
            server.resume()
        assert connection.call("GET", "b") == b"new"


def test_a_signal_within_a_large_reply_costs_nothing() -> None:
    with RedisServer() as server, connected(server.url_unix) as connection:
        value = blob(30_000_000)
        connection.call("SET", "a", value)
        out = np.zeros_like(value)
        before = signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        try:
            for _ in range(5):
                out[:] = 0
                assert connection.get_ranges([("a", 0, out.data)]) == [len(value)]
                assert (out == value).all()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert connection.call("DBSIZE") == 1


def test_closing_wakes_the_thread_that_waits() -> None:
    with RedisServer() as server, connected(server.url_unix, timeout=60, patience=60) as connection:
        connection.call("PING")
        server.pause()
        caught: list[str] = []

        def work() -> None:
            try:
                connection.call("GET", "a")
            except ShardDownError as error:
                caught.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.2)
        connection.close()
        thread.join(50)
        assert not thread.is_alive() and "was closed" in caught[0]
        with pytest.raises(ShardDownError, match="was closed"):
            connection.call("PING")
        server.resume()


def test_closing_wakes_the_thread_that_logs_in() -> None:
    def say_nothing(sock: socket.socket) -> None:
        while sock.recv(1 << 16):
            pass

    with (
        Listener(say_nothing) as silent,
        connected(f"redis://127.0.0.1:{silent.port}", timeout=30) as connection,
        ThreadPoolExecutor() as pool,
    ):
        call = pool.submit(connection.call, "PING")
        while not silent.accepted:
            time.sleep(0.01)
        time.sleep(0.2)
        began = time.monotonic()
        connection.close()
        assert time.monotonic() - began < 10
        with pytest.raises(ShardDownError, match="was closed"):
            call.result(20)


def test_no_file_and_no_thread_is_left_open(server: RedisServer) -> None:
    before = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    with connected(server.url_tcp) as connection:
        connection.call("PING")
    with pytest.raises(ShardDownError):
        Connection(replace(connection.address, port=1), patience=0).call("PING")
    assert (len(list(Path("/proc/self/fd").iterdir())), threading.active_count()) == before
