"""What the processes of real runs listen on is what deploy/README.md says, and their secrets are nowhere to be read.

That each refuses without its secret is tested where it belongs: the cluster in test_cluster_run.py, Redis in
tests/deploy/test_redis_config.py, the monitor in tests/deploy/monitor/test_server.py and test_reach.py.
"""

import contextlib
import http.client
import os
import secrets
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
import yaml

from deploy.distributed.cluster.probe import find_cluster
from deploy.wiring.config import ClusterConfig
from deploy.wiring.redis_password import VARIABLE
from tests.deploy.test_redis_config import client
from tests.integration.listeners import Listener, listeners, name_of, table
from tests.integration.processes import end_all, start_marked
from tests.integration.ray_nodes import RayNodes, environment_of
from tests.integration.runs import NEXUS, command, execute, lines, wait_for
from tests.replay.redis.redis_servers import RedisServer, free_port

pytestmark = pytest.mark.timeout(400)
ROOT = Path(__file__).parents[2]
RAY = {Listener("dashboard agent", "this machine"), Listener("dashboard agent", "network")}
"""Those that are only there with `ray[default]`."""


@pytest.fixture
def logdir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    end_all(tmp_path)


def family(processes: Iterable[psutil.Process]) -> set[psutil.Process]:
    """Processes with all that they have started; a process of Ray may hide its environment."""
    found = set(processes)
    for process in list(found):
        with contextlib.suppress(psutil.Error):
            found |= set(process.children(recursive=True))
    return found


def assert_as_written(run: str, found: set[Listener]) -> None:
    """Nothing but what the table says of this kind of run, and all of it."""
    protection = table(run)
    written = set(protection)
    assert not found - written, f"not in the table of deploy/README.md: {sorted(found - written)}"
    assert not written - found - RAY, f"in the table, but not there: {sorted(written - found - RAY)}"
    assert all(protection.values()), "each row names its protection"


def assert_nowhere(kept: Collection[str], folders: Iterable[Path], files: Collection[Path]) -> None:
    """None of the secrets is in a command line of this machine, or in a file of `folders` other than `files`."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline())
            assert not any(secret in words for secret in kept), name_of(words)
    read = 0
    for folder in folders:
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):  # it has just gone, or is a socket
                if path.is_file() and path not in files:
                    content = path.read_bytes()
                    read += 1
                    assert not [secret for secret in kept if secret.encode() in content], path
    assert read > 10


def _trains(logdir: Path) -> None:
    wait_for(lambda: lines(logdir / "metrics.jsonl"), "a line of metrics", 200)


def test_a_local_run_listens_for_this_machine_alone(logdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = logdir.parent / "token"
    token.touch(0o600)
    token.write_text(secret := secrets.token_hex(32))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    run = start_marked(
        logdir.parent,
        command("gym:CartPole-v1", logdir, "--mode", "local", "--log-every", "5", "--metrics-port", str(free_port())),
    )
    _trains(logdir)
    found = listeners(family([psutil.Process(run.pid)]))
    assert_as_written("local", found)
    assert {one.reach for one in found} == {"this machine"}
    assert_nowhere([secret], [logdir.parent], [token])


def refuses_without_a_token(nodes: RayNodes) -> None:
    """The server of jobs, the agent that makes environments, and the server of Ray's client."""
    ports: dict[str, list[tuple[str, int]]] = {}
    for process in family(nodes.members()):
        with contextlib.suppress(psutil.Error):
            name = name_of(" ".join(process.cmdline()))
            there = [one.laddr for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
            ports.setdefault(name, []).extend(there)
    assert ports["dashboard"] and ports["runtime environment agent"] and ports["client server"]
    for address, port in ports["dashboard"] + ports["runtime environment agent"]:
        assert _status(address, port, "/api/jobs/") == 401
    for _, port in ports["client server"]:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/ray.rpc.RayletDriver/ClusterInfo")(b"", timeout=20)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def _status(address: str, port: int, path: str) -> int:
    line = http.client.HTTPConnection(address.removeprefix("::ffff:"), port, timeout=20)
    with contextlib.closing(line):
        line.request("GET", path)
        return line.getresponse().status


def test_compose_opens_what_the_table_says() -> None:
    """Ports that Compose publishes are those of this machine in the table, and no service is missing there."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    rows = {one.process: one.reach for one in table("compose")}
    opened = {name for name, service in services.items() if service.get("ports")}
    assert opened == {name for name in services if rows.get(name) == "this machine"}
    assert {name for name in services if name.startswith("redis")} <= rows.keys()


@pytest.mark.slow
def test_a_cluster_run_with_redis_and_a_monitor(logdir: Path) -> None:
    password, monitor_token = secrets.token_hex(16), secrets.token_hex(16)
    folder = logdir.parent
    (given := folder / "monitor-token").touch(0o600)
    given.write_text(monitor_token)
    with RayNodes(jobs=True) as nodes, RedisServer(tcp=True, password=password, appendonly=True) as server:
        nodes.join()
        with environment_of(nodes):
            os.environ[VARIABLE] = password
            run = start_marked(folder, command(
                "gym:CartPole-v1", logdir, "--mode", "cluster", "--cluster.address", nodes.address, "--log-every", "5",
                "--cluster.learner-nodes", "role=learner", "--cluster.actor-nodes", "role=actors",
                "--replay", f"redis://127.0.0.1:{server.port}", "--metrics-port", str(free_port()),
            ))  # fmt: skip
        words = ["monitor", str(folder), "--port", "0", "--host", "0.0.0.0", "--token-file", str(given)]
        (elsewhere := nodes.folder / "monitor").mkdir()
        monitor = execute(elsewhere, [*NEXUS, *words])
        try:
            _trains(logdir)
            wait_for(lambda: "http" in (elsewhere / "output.log").read_text(), "the monitor")
            own = [psutil.Process(one.pid) for one in (run, monitor)] + [psutil.Process(server.pid)]
            assert_as_written("cluster", listeners(family([*own, *nodes.members()])))
            assert_nowhere(
                [nodes.token, password, monitor_token], [folder, nodes.folder], [given, nodes.folder / "token"]
            )
            with environment_of(nodes), pytest.MonkeyPatch.context() as patch:
                patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
                with pytest.raises(ValueError, match="rejects the token"):
                    find_cluster(ClusterConfig(address=nodes.address))
            refuses_without_a_token(nodes)
            with client(server.port, "") as stranger, pytest.raises(ValueError, match="requires a password"):
                stranger.call("PING")
        finally:
            monitor.terminate()
            monitor.wait(30)
