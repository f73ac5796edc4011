"""The Redis shards of docker-compose.yml: a real redis-server, started by the same command with the same files."""

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from replay.redis.redis_connection import Connection
from replay.redis.redis_server import parse_info
from replay.redis_url import Address
from tests.replay.redis.redis_servers import EXECUTABLE, dying_with_the_test, free_port

ROOT = Path(__file__).parents[2]
IMAGE = (ROOT / "deploy" / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
COMMAND = ["sh", str(ROOT / "deploy" / "redis" / "start.sh")]
PASSWORDS = ["sesame", "two words", "quote \" and ' and \\ and \\n", "$HOME `id` $(id) %s # &", "grüße"]


def environment_of(service: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """The container's environment where docker compose is called with the one given."""
    default = re.compile(r"\$\{(\w+):-([^}]*)\}")
    return {
        key: default.sub(lambda match: given.get(match[1]) or match[2], value)
        for key, value in service["environment"].items()
    }


@contextmanager
def shard(
    name: str, folder: Path, port: int, password: str | None = None, **given: str
) -> Iterator[subprocess.Popen[bytes]]:
    """As the container starts it, with its secret in a file; without `password` the file is missing."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    if not (programs / "redis-server").exists():
        (programs / "redis-server").symlink_to(EXECUTABLE)
    data = folder / "data"
    data.mkdir(exist_ok=True)
    secret = folder / "redis_password"
    if password is not None:
        secret.write_text(password)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"} | environment_of(COMPOSE[name], given)
    assert environment["REDIS_PASSWORD_FILE"] == "/run/secrets/redis_password"
    own = {"REDIS_PASSWORD_FILE": str(secret), "REDIS_PORT": str(port), "REDIS_BIND": ""}  # in a container they differ
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            dying_with_the_test(["/usr/bin/env", *COMMAND]),
            env=environment | own,
            cwd=data,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=60)


@contextmanager
def client(port: int, password: str, patience: float = 30.0) -> Iterator[Connection]:
    """Its checks are the ones every run makes: password, version, eviction policy."""
    connection = Connection(Address(host="127.0.0.1", port=port, password=password), patience=patience)
    try:
        yield connection
    finally:
        connection.close()


def settings(connection: Connection) -> dict[str, str]:
    listed = connection.call("CONFIG", "GET", "*")
    assert isinstance(listed, list)
    words = [word.decode() for word in listed]
    return dict(zip(words[::2], words[1::2], strict=True))


def synced(connection: Connection, timeout: float = 60.0) -> None:
    """Returns when all that was written is in the append-only file."""
    deadline = time.monotonic() + timeout
    while True:
        text = connection.call("INFO", "persistence")
        assert isinstance(text, bytes)
        info = parse_info(text)
        if info["aof_buffer_length"] == info["aof_pending_bio_fsync"] == "0":
            return
        assert time.monotonic() < deadline, f"the append-only file is behind for {timeout:g} s"
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["redis-0", "redis-1"])
def test_a_shard_runs_with_these_settings(name: str, tmp_path: Path) -> None:
    port = free_port()
    with shard(name, tmp_path, port, "sesame") as process, client(port, "sesame") as connection:
        assert connection.call("PING") == b"PONG"
        found = settings(connection)
        command_line = Path(f"/proc/{process.pid}/cmdline")
        if command_line.exists():
            assert b"redis-server" in command_line.read_bytes() and b"sesame" not in command_line.read_bytes()
    expected = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "no-appendfsync-on-rewrite": "no",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory": str(8 * 2**30),
        "maxmemory-policy": "noeviction",
        "protected-mode": "yes",
        "bind": "127.0.0.1 -::1",
        "requirepass": "sesame",
    }
    assert {key: found[key] for key in expected} == expected


def test_the_containers_listen_on_the_private_network_alone() -> None:
    for name in ("redis-0", "redis-1"):
        service = COMPOSE[name]
        assert service["environment"]["REDIS_BIND"] == "* -::*" and service["secrets"] == ["redis_password"]
        assert not {"command", "ports", "networks", "network_mode"} & service.keys()
        assert service["build"]["target"] == "replay"
    assert "COPY deploy/redis /etc/nexus/redis\n" in IMAGE
    assert 'CMD ["sh", "/etc/nexus/redis/start.sh"]\n' in IMAGE


def test_what_was_said_to_be_kept_comes_back(tmp_path: Path) -> None:
    port = free_port()
    for start in range(2):
        with (
            shard("redis-0", tmp_path, port, "sesame", REDIS_MAXMEMORY="100mb"),
            client(port, "sesame") as connection,
        ):
            assert settings(connection)["maxmemory"] == str(100 * 2**20)
            assert connection.call("INCR", "starts") == start + 1
            synced(connection)  # then SIGKILL
    assert not (tmp_path / "data" / "dump.rdb").exists()


def test_passwords_of_any_kind(tmp_path: Path) -> None:
    for password in PASSWORDS:
        port = free_port()
        with (
            shard("redis-0", tmp_path, port, password, REDIS_MAXMEMORY="100mb"),
            client(port, password) as connection,
        ):
            assert connection.call("PING") == b"PONG"
            with client(port, "another") as other, pytest.raises(ValueError, match="refuses user default"):
                other.call("PING")
            with client(port, "") as other, pytest.raises(ValueError, match="requires a password"):
                other.call("PING")


@pytest.mark.parametrize(
    ("password", "given", "said"),
    [
        (None, {}, "redis_password cannot be read"),
        ("", {}, "set REDIS_PASSWORD, for example: export REDIS_PASSWORD=$(openssl rand -hex 32)"),
        ("two\nlines", {}, "REDIS_PASSWORD has more than one line"),
        ("sesame", {"REDIS_MAXMEMORY": "0"}, "set REDIS_MAXMEMORY to what this shard may take"),
    ],
)
def test_nothing_starts_without_a_password_or_a_bound(
    password: str | None, given: dict[str, str], said: str, tmp_path: Path
) -> None:
    with shard("redis-0", tmp_path, free_port(), password, **given) as process:
        assert process.wait(timeout=60) == 1
    assert said in (tmp_path / "log").read_text()
    assert not list((tmp_path / "data").iterdir())
