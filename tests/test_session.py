"""A session that leaves something behind fails, and names it; one that does not is green."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.session import OWNER

ROOT = Path(__file__).parents[1]
LEAVES = """
import socket, subprocess, tempfile
from tests import conftest
from tests.contracts.disk_stores import new_directory
from tests.replay.redis.redis_servers import RedisServer

conftest.GRACE = 1.0
kept = []

def test_leaves():
    kept.append(subprocess.Popen(["sleep", "1000"], start_new_session=True))
    kept.append(socket.create_server(("127.0.0.1", 0)))
    new_directory()
    server = RedisServer()
    server.start()
    server.stop()
    server.folder.mkdir()
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].bind(str(server.socket))
"""


def session_over(folder: Path, content: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A session of its own over one file of tests."""
    file = folder / "test_one.py"
    file.write_text(content)
    command = [sys.executable, "-m", "pytest", "--config-file", str(ROOT / "pyproject.toml"), "-p", "tests.conftest"]
    environment = {key: value for key, value in os.environ.items() if key != OWNER and not key.startswith("PYTEST_")}
    return subprocess.run([*command, *options, str(file)], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_what_is_left_behind_is_named_and_removed(tmp_path: Path) -> None:
    done = session_over(tmp_path, LEAVES)
    assert done.returncode == 1, done.stdout + done.stderr
    left = done.stdout.split("left behind by the tests")[1]
    for line in (
        r"process \d+: sleep 1000",
        r"shared memory /dev/shm/nexus-\S+-disk-",
        "listening socket .*127.0.0.1",
        r"socket \S+/redis-\S+/socket",
    ):
        assert re.search(line, left), left
    assert len(re.findall("(?m)^(process|shared memory|listening socket|socket) ", left)) == 4
    shared = re.search(r"shared memory (\S+)", left)
    assert shared and not Path(shared.group(1)).exists()
    pid = re.search(r"process (\d+)", left)
    assert pid and not Path(f"/proc/{pid.group(1)}").exists()


def test_a_session_that_cleans_up_is_green(tmp_path: Path) -> None:
    content = (
        "from tests.contracts.redis_stores import redis_store\ndef test_one():\n    assert not len(redis_store())\n"
    )
    done = session_over(tmp_path, content, "-n", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout and "left behind" not in done.stdout
