"""Every form of a URL against a real server, which redis-py opens the connection to."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from replay.redis.redis_connection import Connection, ReplyError, ShardDownError
from replay.redis.redis_session import Session
from replay.redis_url import parse
from tests.replay.redis.proxies import Listener, Proxy, certificate
from tests.replay.redis.redis_servers import RedisServer, connected
from tests.replay.redis.refusing_redis import works

USER, PASSWORD = "wr:iter", "p@ss /w%20ord+&?#"
ESCAPED_USER, ESCAPED = "wr%3Aiter", "p%40ss%20%2Fw%2520ord%2B%26%3F%23"
RIGHTS = [
    "~run*",
    "+@read",
    "+@write",
    "+@scripting",
    "+@connection",
    "+select",
    "+@transaction",
    "+info",
    "+acl|whoami",
]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def forms(tls: tuple[Path, Path]) -> Iterator[dict[str, str]]:
    """URLs of one server, which lets an ACL user in beside its administrator; the proxy adds TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(tcp=True, password="sesame"))
        proxy = stack.enter_context(Proxy(server.port, context))
        with connected(server.url_unix) as admin:
            admin.call("ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}", *RIGHTS)
        login, query = f"{ESCAPED_USER}:{ESCAPED}", f"username={ESCAPED_USER}&password={ESCAPED}"
        plain, secured = f"127.0.0.1:{server.port}", f"localhost:{proxy.port}"
        yield {
            "tcp": f"redis://{login}@{plain}/3",
            "tcp, all in options": f"redis://{plain}?{query}&db=3",
            "unix": f"unix://{login}@{server.socket}?db=3",
            "unix, all in options": f"unix://{server.socket}?{query}&db=3",
            "unix, short": f"unix://{server.socket}?{query.replace('username', 'user')}&db=3",
            "tls": f"rediss://{login}@{secured}/3?ssl_ca_certs={tls[0]}",
            "tls, short": f"rediss://{login}@{secured}/3?ca={tls[0]}",
            "tls, any host": f"rediss://{secured}/3?{query}&ssl_ca_certs={tls[0]}&ssl_check_hostname=no",
            "tls, unchecked": f"rediss://{secured}/3?{query}&ssl_cert_reqs=none",
        }


def test_a_url_that_names_an_authority_trusts_no_other(
    tls: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    other, _ = certificate(tmp_path, "elsewhere")
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[0]))  # the system's authorities
    with RedisServer(tcp=True) as server, Proxy(server.port, context) as proxy:
        url = f"rediss://localhost:{proxy.port}"
        with connected(url) as connection:
            assert connection.call("PING") == b"PONG"
        for option in (f"ca={other}", f"ssl_ca_path={tmp_path}"):
            with connected(f"{url}?{option}") as connection, pytest.raises(ValueError, match="not trusted"):
                connection.call("PING")


FORMS = [
    "tcp", "tcp, all in options", "unix", "unix, all in options", "unix, short", "tls", "tls, short", "tls, any host",
    "tls, unchecked",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_url_reaches_its_user_and_database(forms: dict[str, str], form: str) -> None:
    assert forms.keys() == set(FORMS)
    out = bytearray(5)
    with connected(forms[form]) as connection, connected(forms["tcp"]) as other:
        assert connection.call("ACL", "WHOAMI") == USER.encode()
        assert connection.call("SET", "run", form) == b"OK" and other.call("GET", "run") == form.encode()
        connection.call("SET", "run", np.arange(100_000, dtype=np.uint8))
        assert connection.get_ranges([("run", 65_536, memoryview(out))]) == [5] and bytes(out) == bytes(range(5))
        with pytest.raises(ReplyError, match="NOPERM"):
            connection.call("SET", "elsewhere", "x")


@pytest.mark.parametrize("form", ["tcp", "unix", "tls"])
def test_a_replay_lies_on_a_server_of_any_form(forms: dict[str, str], form: str) -> None:
    works(forms[form])


def test_nothing_waits_in_either_reader_between_two_exchanges(forms: dict[str, str]) -> None:
    out = np.zeros((50, 30_000), np.uint8)
    with connected(forms["unix"]) as connection:
        for _ in range(20):
            connection.call("SET", "run", bytes(1_000_000))
            connection.get_ranges([("run", i, out[i].data) for i in range(50)])
            session = connection._session
            assert session is not None
            assert session._ranges._at == session._ranges._end and not session._redis.can_read(0)


def test_no_password_is_shown(forms: dict[str, str]) -> None:
    wrong = forms["tcp"].replace(ESCAPED, "simsim")
    with connected(wrong) as connection, pytest.raises(ValueError, match="refuses user wr:iter") as refused:
        connection.call("PING")
    with connected(forms["tcp"]) as connection:
        connection.call("PING")
        shown = f"{connection._session} {connection._session._redis} {connection.address}"  # type: ignore[union-attr]
    assert PASSWORD not in shown and "simsim" not in str(refused.value)


def test_how_long_to_wait_may_stand_in_the_url() -> None:
    with RedisServer(tcp=True) as server, connected(f"{server.url_tcp}?socket_timeout=0.2", patience=0.1) as connection:
        connection.call("PING")
        server.pause()
        with pytest.raises(ShardDownError, match=r"it was silent for 0.2 s"):
            connection.call("PING")
        server.resume()


@pytest.mark.parametrize(("option", "on"), [("", 1), ("?socket_keepalive=no", 0)])
def test_socket_options(forms: dict[str, str], option: str, on: int) -> None:
    with RedisServer(tcp=True) as server, connected(server.url_tcp + option) as connection:
        connection.call("PING")
        sock = socket_of(connection)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == on
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_slow_server_may_take_its_time_over_a_large_value() -> None:
    def read_slowly(sock: socket.socket) -> None:
        sock.recv(1 << 16)
        sock.sendall(b"+PONG\r\n")
        while data := sock.recv(1 << 15):
            if data.endswith(b"end\r\n"):
                sock.sendall(b"+OK\r\n")
            time.sleep(0.03)

    with Listener(read_slowly) as slow:
        slow._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        session = Session(parse(f"redis://127.0.0.1:{slow.port}", {}), timeout=1.0)
        session.open()
        session._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        began = time.monotonic()
        assert session.ask([("SET", "a", bytes((2 << 20) - 3) + b"end")]) == [b"OK"]
        assert time.monotonic() - began > 1.5
        session.close()


def socket_of(connection: Connection) -> socket.socket:
    assert connection._session is not None
    return connection._session._sock
