"""Where the processes of a local Ray can be reached."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.distributed.ray_cluster import listening, loopback
from tests.contracts import ray_stores
from tests.integration.runs import environment


def test_ray_listens_for_this_machine_alone() -> None:
    ray_stores.actor()  # Ray is there, and a worker of it
    sockets = listening()
    names = {name for name, _, _ in sockets}
    assert {"gcs_server", "raylet"} <= names and len(sockets) >= 5, sockets
    assert not [one for one in sockets if not loopback(one[1])]


def test_addresses_that_other_machines_reach_are_told_apart() -> None:
    inside, outside = (
        ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"),
        ("0.0.0.0", "::", "10.0.0.5", "2001:db8::1"),
    )
    assert all(map(loopback, inside)) and not any(map(loopback, outside))
    own = socket.create_server(("0.0.0.0", 0))
    try:
        assert own.getsockname()[1] in [port for _, address, port in listening() if not loopback(address)]
    finally:
        own.close()


def test_ray_starts_with_the_token_of_now_whatever_was_read_before(tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.write_text("0" * 64)
    before.chmod(0o600)
    code = """
import os, sys
from ray._raylet import AuthenticationTokenLoader
from deploy.distributed.ray_cluster import start_local
assert AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
os.environ["RAY_AUTH_TOKEN_PATH"] = sys.argv[1]
print(start_local("token", 80_000_000))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "fresh")],
        env=environment() | {"RAY_AUTH_TOKEN_PATH": os.fspath(before)},
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.stdout.startswith("127.0.0.1:"), done.stderr


@pytest.mark.slow
def test_ray_is_started_again_if_it_is_late(tmp_path: Path) -> None:
    code = """
import psutil, signal, threading, time
from deploy.distributed.ray_cluster import start_local
late = []
def delay():
    while not late:
        late.extend(one for one in psutil.Process().children(recursive=True) if one.name() == "raylet")
        time.sleep(0.001)
    late[0].suspend()
threading.Thread(target=delay).start()
print(start_local("late", 80_000_000), late[0].pid, late[0].is_running())
"""
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", code]
    done = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.stdout.startswith("127.0.0.1:") and done.stdout.endswith(" False\n"), done.stdout + done.stderr
    assert f"subprocess {done.stdout.split()[1]} is still running" not in done.stderr, "of the late one"
