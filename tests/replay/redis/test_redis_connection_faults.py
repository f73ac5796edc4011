"""What the client does when servers, lines and neighbours misbehave: real servers, real signals, real sockets."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from replay.redis.redis_connection import Connection, ShardDownError
from replay.redis_url import parse
from tests.replay.beside import meanwhile, meanwhile_once, progress
from tests.replay.redis.proxies import Listener, Proxy, answering, certificate
from tests.replay.redis.redis_servers import RedisServer, connected, free_port


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(tcp=True) as running:
        yield running


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


def blob(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, n, dtype=np.uint8)


def refused(url: str, message: str) -> None:
    """The very first call fails with `message`, without waiting for anything to change."""
    notes: list[str] = []
    with connected(url, notes=notes) as connection, pytest.raises(ValueError, match=message):
        connection.call("PING")
    assert not notes


# ---- servers that will never do ----


def test_passwords() -> None:
    with RedisServer(tcp=True, password="sesame") as server:
        for url in (server.url_tcp, server.url_unix):
            with connected(url) as connection:
                assert connection.call("PING") == b"PONG"
        plain = f"redis://127.0.0.1:{server.port}"
        refused(plain, f"{plain} requires a password: put it in the URL or set NEXUS_REDIS_PASSWORD")
        said = r"refuses user {} \(WRONGPASS.*\): the user does not exist or is disabled, or the pass"
        said += r"word is wrong; see redis-cli ACL GETUSER {}, and correct the URL or NEXUS_REDIS_PASSWORD"
        refused(server.url_tcp.replace("sesame", "simsim"), said.replace("{}", "default"))
        refused(server.url_unix.replace("sesame", "simsim"), said.replace("{}", "default"))
        refused(server.url_tcp.replace("redis://:", "redis://nobody:"), said.replace("{}", "nobody"))
        with connected(server.url_tcp) as connection:
            connection.call("ACL", "SETUSER", "reader", "on", ">p@ss/word", "~*", "+@all", "-info", "-select")
            connection.call("ACL", "SETUSER", "writer", "on", ">p@ss/word", "~*", "+@all", "-client")
            connection.call("ACL", "SETUSER", "asleep", "off", ">p@ss/word", "~*", "+@all")
        login = f":{quote('p@ss/word', safe='')}@127.0.0.1:{server.port}"
        refused(f"redis://asleep{login}", said.replace("{}", "asleep"))
        refused(f"redis://reader{login}/1", r"user reader may not run SELECT, INFO; .* reader \+select \+info")
        with connected(f"redis://writer{login}") as connection:
            assert connection.call("ACL", "WHOAMI") == b"writer"


def test_a_password_for_a_server_without_one(server: RedisServer) -> None:
    refused(f"redis://:sesame@127.0.0.1:{server.port}", "has no password, but one was given")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_evicts_by_itself(policy: str) -> None:
    with RedisServer(maxmemory="100mb", maxmemory_policy=policy) as server:
        refused(server.url_unix, f"maxmemory-policy {policy} .* CONFIG SET maxmemory-policy noeviction")


def test_a_member_of_a_cluster() -> None:
    server = RedisServer(tcp=True, cluster_enabled="yes")
    while server.port > 55_000:
        server.port = free_port()  # it takes another one, 10,000 above
    with server:
        refused(server.url_unix, "part of a Redis Cluster")


@pytest.mark.parametrize("version", ["5.0.14", "6.0.16", "6.1"])
def test_a_version_too_old(version: str) -> None:
    info = f"redis_version:{version}\r\nmaxmemory_policy:noeviction\r\nrun_id:1\r\n"
    replies = f"+PONG\r\n+OK\r\n${len(info)}\r\n{info}\r\n"
    with Listener(answering(replies.encode())) as old:
        refused(f"redis://127.0.0.1:{old.port}", f"is version {version}; use 6.2 or newer")


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n", b"\x4a\0\0\0\x0a8.0"]
)
def test_a_server_that_is_not_redis(said: bytes) -> None:
    with Listener(answering(said)) as other:
        refused(f"redis://127.0.0.1:{other.port}", rf"127.0.0.1:{other.port} is not a Redis server.*it sent b'")


def test_a_server_behind_tls_that_is_not_redis(keys: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*keys)
    with Listener(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), context) as other:
        refused(
            f"rediss://127.0.0.1:{other.port}?ca={keys[0]}",
            "is not a Redis server.*it sent an invalid reply .*Check host",
        )


def test_a_server_that_falls_silent_at_the_password() -> None:
    with (
        Listener(answering(b"+PONG\r\n")) as silent,
        connected(f"redis://:sesame@127.0.0.1:{silent.port}", timeout=0.2, patience=0.1) as connection,
        pytest.raises(ShardDownError, match="it was silent for 0.2 s"),
    ):
        connection.call("PING")


def test_protected_mode() -> None:
    with Listener(answering(b"-DENIED Redis is running in protected mode because no password\r\n")) as shut:
        refused(f"redis://127.0.0.1:{shut.port}", "refuses connections from other machines: DENIED Redis is running in")


# ---- servers that may come back ----


def test_a_server_that_stays_silent_is_waited_for_and_then_named() -> None:
    notes: list[str] = []
    with (
        Listener(answering(b"")) as silent,
        connected(f"redis://127.0.0.1:{silent.port}", timeout=0.2, patience=0.5, notes=notes) as connection,
        pytest.raises(ShardDownError, match=rf"{silent.port} has not answered PING for \d+ s; .*silent for 0.2 s"),
    ):
        connection.call("PING")
    assert notes == [f"Redis redis://127.0.0.1:{silent.port}: it was silent for 0.2 s; trying again for 0.5 s."]


def test_a_server_that_was_silent_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.redis.redis_connection.FIRST", 60.0)
    heard: list[bytes] = []

    def silent_once(sock: socket.socket) -> None:
        heard.append(sock.recv(1 << 16))
        if len(heard) > 1:
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        while sock.recv(1 << 16):
            pass

    with (
        Listener(silent_once) as slow,
        connected(f"redis://127.0.0.1:{slow.port}", timeout=1.0, patience=60.0) as connection,
        pytest.raises(ValueError, match="is not a Redis server"),
    ):
        connection.call("PING")
    assert len(heard) > 1


def test_a_server_that_is_not_there(server: RedisServer) -> None:
    for url, why in ((f"redis://127.0.0.1:{free_port()}", "Connection refused"), ("unix:///nowhere", "No such file")):
        with connected(url, patience=0.1) as connection, pytest.raises(ShardDownError, match=f"the last error: {why}"):
            connection.call("PING")


def answers(connection: Connection, *command: str) -> bytes | None:
    """What a server says that may be away; None: nothing."""
    try:
        reply = connection.call(*command)
    except ShardDownError:
        return None
    assert isinstance(reply, bytes)
    return reply


def test_a_hung_server_is_given_up_and_taken_back() -> None:
    notes: list[str] = []
    with (
        RedisServer(tcp=True) as server,
        Proxy(server.port) as proxy,
        connected(f"redis://127.0.0.1:{proxy.port}", timeout=0.5, patience=1.0, notes=notes) as connection,
    ):
        progress(lambda: answers(connection, "SET", "a", "x") == b"OK")
        notes.clear()
        server.pause()
        with pytest.raises(ShardDownError, match="has not answered GET"):
            connection.call("GET", "a")
        before = proxy.accepted
        with pytest.raises(ShardDownError):
            connection.call("GET", "a")
        assert proxy.accepted == before + 1, "tried once, no longer with patience"
        server.resume()
        progress(lambda: answers(connection, "GET", "a") == b"x")
        assert connection.epoch == 0
        assert "it was silent for 0.5 s" in notes[0] and "answers again after" in notes[1]


def test_too_many_clients_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    with RedisServer(maxclients=1) as full, connected(full.url_unix) as first:
        progress(lambda: answers(first, "PING") == b"PONG")  # the one that asked whether it has started may linger
        with monkeypatch.context() as hasty, connected(full.url_unix, patience=600.0) as new:  # nobody has reached it
            hasty.setattr("replay.redis.redis_connection.FIRST", 0.2)
            with pytest.raises(
                ShardDownError, match="already has maxclients connected .*disconnect some.* raise maxclients in"
            ):
                new.call("PING")
        known = Connection(parse(full.url_unix), patience=60.0, known=True, note=notes.append)
        with closing(known), meanwhile_once(lambda: answers(known, "PING")) as said:
            progress(lambda: bool(notes))
            assert "already has maxclients connected" in notes[0] and "Trying again for 60 s" in notes[0]
            first.close()
        assert said == [b"PONG"] and "answers again" in notes[-1] and len(notes) == 2


def test_a_server_still_loading_is_waited_for() -> None:
    # It takes half a minute, answers once a second, and is started again as soon as that was noticed.
    with RedisServer(appendonly=True, key_load_delay=1000) as server:
        with connected(server.url_unix) as connection:
            connection.pipeline([("SET", i, i) for i in range(30_000)])
        server.kill()
        server.start(wait=False)
        progress(server.socket.exists)
        notes: list[str] = []
        with (
            connected(server.url_unix, patience=100.0, notes=notes) as connection,
            meanwhile_once(lambda: connection.call("DBSIZE")) as said,
        ):
            progress(lambda: any("still loading" in note for note in notes))
            server.settings["key-load-delay"] = 0
            server.restart()
        assert said == [30_000]
        assert "answers again" in notes[-1]


# ---- killed and cut ----


@pytest.mark.parametrize("tcp", [False, True])
def test_sigkill_within_pipelines_loses_nothing_acknowledged(tcp: bool) -> None:
    with RedisServer(tcp=tcp, appendonly=True, appendfsync="always") as server:
        notes: list[str] = []
        with connected(server.url_tcp if tcp else server.url_unix, notes=notes) as connection:
            done = 0

            def work() -> None:
                nonlocal done
                value = blob(100_000, done)
                replies = connection.pipeline([("SET", f"{done}/{i}", value) for i in range(10)])
                assert replies == [b"OK"] * 10
                done = done + 1 if done < 30 else 0

            with meanwhile(work):
                for n in range(1, 4):
                    progress(lambda: done % 30 > 3)
                    server.restart()
                    progress(lambda: connection.epoch == n)  # noqa: B023
            assert sum("answers again" in note and "restarted" in note for note in notes) == 3
            for n in range(done):
                assert connection.call("GET", f"{n}/9") == blob(100_000, n).tobytes()


def test_sigkill_within_ranges_gives_no_wrong_byte() -> None:
    value = blob(8_000_000)
    with RedisServer(appendonly=True) as server, connected(server.url_unix) as connection:
        connection.call("SET", "a", value)
        out = np.zeros((20, 400_000), np.uint8)
        requests = [("a", i * 400_000, out[i].data) for i in range(20)]
        rounds = 0

        def work() -> None:
            nonlocal rounds
            out[:] = 0
            assert connection.get_ranges(requests).tolist() == [400_000] * 20
            assert (out.reshape(-1) == value).all()
            rounds += 1

        with meanwhile(work):
            for n in range(1, 4):
                progress(lambda: rounds > 3 * n)  # noqa: B023
                server.restart()
                progress(lambda: connection.epoch == n)  # noqa: B023


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 9, 70_000, 399_999, 400_007, 400_008, 400_010, 900_000])
def test_a_line_cut_within_a_reply_goes_on_where_it_was(server: RedisServer, cut: int) -> None:
    value = blob(2_000_000)
    notes: list[str] = []
    with Proxy(server.port) as proxy, connected(f"redis://127.0.0.1:{proxy.port}", notes=notes) as connection:
        connection.call("SET", "a", value)
        out = np.zeros((5, 400_000), np.uint8)
        proxy.cut_after = cut
        assert connection.get_ranges([("a", i * 400_000, out[i].data) for i in range(5)]).tolist() == [400_000] * 5
        np.testing.assert_array_equal(out.reshape(-1), value)
        assert proxy.accepted == 2 and connection.epoch == 0
        assert "trying again" in notes[0] and "answers again after" in notes[1] and "restarted" not in notes[1]


def test_a_connection_killed_by_the_server(server: RedisServer) -> None:
    with connected(server.url_tcp) as connection, connected(server.url_unix) as killer:
        for _ in range(3):
            connection.call("SET", "a", "x")
            assert killer.call("CLIENT", "KILL", "SKIPME", "yes") == 1
            assert connection.call("GET", "a") == b"x"
        assert connection.epoch == 0


def test_cuts_at_random_times(server: RedisServer) -> None:
    value = blob(1_000_000, 5)
    with Proxy(server.port) as proxy, connected(f"redis://127.0.0.1:{proxy.port}") as connection:
        out = np.zeros_like(value)

        def work() -> None:
            out[:] = 0
            assert connection.pipeline([("SET", "a", value), ("ECHO", "x")]) == [b"OK", b"x"]
            halves = [("a", 0, out[:500_000].data), ("a", 500_000, out[500_000:].data)]
            assert connection.get_ranges(halves).tolist() == [500_000, 500_000]
            assert (out == value).all()

        with meanwhile(work):
            for pause in np.random.default_rng(0).uniform(0.0, 0.1, 15):
                before = proxy.accepted
                time.sleep(pause)
                proxy.cut()
                progress(lambda: proxy.accepted > before)  # noqa: B023


# ---- TLS ----


def tls_proxy(server: RedisServer, keys: tuple[Path, Path], ask: bool = False) -> Proxy:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*keys)
    if ask:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(keys[0])
    return Proxy(server.port, context)


def test_tls(server: RedisServer, keys: tuple[Path, Path]) -> None:
    with tls_proxy(server, keys) as proxy:
        for host in ("127.0.0.1", "localhost"):
            with connected(f"rediss://{host}:{proxy.port}?ca={keys[0]}") as connection:
                whole_round(connection)
        with connected(f"rediss://127.0.0.1:{proxy.port}?insecure=1") as connection:
            whole_round(connection)
            proxy.cut()
            whole_round(connection)


def whole_round(connection: Connection) -> None:
    value, out = blob(3_000_000), np.zeros((2, 1_500_000), np.uint8)
    assert connection.pipeline([("SET", "a", value), ("STRLEN", "a")]) == [b"OK", len(value)]
    assert connection.get_ranges([("a", i * 1_500_000, out[i].data) for i in range(2)]).tolist() == [1_500_000] * 2
    np.testing.assert_array_equal(out.reshape(-1), value)


def test_certificates_are_checked(server: RedisServer, keys: tuple[Path, Path], tmp_path: Path) -> None:
    other = certificate(tmp_path, "elsewhere")
    with tls_proxy(server, keys) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}"
        refused(url, "not trusted: self-signed certificate.*ca=FILE.*insecure=1")
        refused(f"{url}?ca={other[0]}", "not trusted: self-signed certificate")
        refused(f"{url}?ca={tmp_path}/none.crt", "none.crt of .* cannot be used: .*No such file")
        refused(f"{url}?ca={keys[1]}", "cannot be used")
        with (
            connected(f"redis://127.0.0.1:{proxy.port}", patience=0.1) as connection,
            pytest.raises(ShardDownError, match="rediss:// if it requires TLS"),
        ):
            connection.call("PING")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*other)
    with Proxy(server.port, context) as proxy:
        refused(f"rediss://localhost:{proxy.port}?ca={other[0]}", "not trusted: Hostname mismatch")


def test_tls_with_a_certificate_of_the_client(server: RedisServer, keys: tuple[Path, Path]) -> None:
    with tls_proxy(server, keys, ask=True) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}?ca={keys[0]}"
        with connected(url) as connection, pytest.raises(ValueError, match="our certificate .*cert=FILE&key=FILE"):
            connection.call("PING")  # maybe not at once: what the server says may get lost when it hangs up
        with connected(f"{url}&cert={keys[0]}&key={keys[1]}") as connection:
            whole_round(connection)


def test_tls_where_there_is_none(server: RedisServer) -> None:
    with (
        connected(f"rediss://127.0.0.1:{server.port}", timeout=0.3, patience=0.3) as connection,
        pytest.raises((ValueError, ShardDownError), match="TLS"),
    ):
        connection.call("PING")
