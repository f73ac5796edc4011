"""What the processes of real runs listen on is what deploy/README.md says, and their secrets are nowhere to be read.

That each refuses without its secret is tested where it belongs: the cluster in test_cluster_run.py, Redis in
tests/deploy/test_redis_config.py, the monitor in tests/deploy/monitor/test_server.py and test_reach.py.
"""

import contextlib
import http.client
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

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

ROOT = Path(__file__).parents[2]
OFTEN = {"dashboard agent", "dashboard", "autoscaler monitor"}
"""Processes that are only there with `ray[default]`, or listen on a fixed port if no other cluster has taken it."""


@contextlib.contextmanager
def started(folder: Path, *options: str) -> Iterator[psutil.Process]:
    """A run in `folder` / run that trains; ended with the context."""
    logdir = folder / "run"
    options = ("--log-every", "5", "--metrics-port", str(free_port()), *options)
    run = start_marked(folder, command("gym:CartPole-v1", logdir, *options))
    try:
        wait_for(lambda: lines(logdir / "metrics.jsonl") or run.poll() is not None, "a line of metrics")
        assert run.poll() is None, (folder / "output.log").read_text()
        yield psutil.Process(run.pid)
    finally:
        end_all(folder)
        run.wait(300)


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
    gone = {one for one in written - found if one.process not in OFTEN}
    assert not gone, f"in the table, but not there: {sorted(gone)}"
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
    assert read >= 5, "logs and run directory are there"


def secret_in(file: Path) -> str:
    """A fresh secret, in a file of its own."""
    file.touch(0o600)
    file.write_text(secret := secrets.token_hex(32))
    return secret


def test_a_local_run_listens_for_this_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = secret_in(token := tmp_path / "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    with started(tmp_path, "--mode", "local") as run:
        found = listeners(family([run]))
        assert_as_written("local", found)
        assert {one.reach for one in found} == {"this machine"}
        assert_nowhere([secret], [tmp_path], [token])


def refuses_without_a_token(nodes: RayNodes) -> None:
    """The server of jobs, the agent that makes environments, and the server of Ray's client."""
    ports: dict[str, list[tuple[str, int]]] = {}
    for process in family(nodes.members()):
        with contextlib.suppress(psutil.Error):
            name = name_of(" ".join(process.cmdline()))
            there = [one.laddr for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
            ports.setdefault(name, []).extend(there)
    assert ports["runtime environment agent"] and ports["client server"]
    grpc = pytest.importorskip("grpc", reason="needs grpcio, which ray[default] brings")
    job_server = urlsplit(nodes.job_server)
    for address, port in [(job_server.hostname, job_server.port), *ports["runtime environment agent"]]:
        assert _status(str(address), port or 0, "/api/jobs/") == 401
    for _, port in ports["client server"]:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/ray.rpc.RayletDriver/ClusterInfo")(b"", timeout=60)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def _status(address: str, port: int, path: str) -> int:
    line = http.client.HTTPConnection(address.removeprefix("::ffff:"), port, timeout=60)
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
def test_a_cluster_run_with_redis_and_a_monitor(tmp_path: Path) -> None:
    password, monitor_token = secrets.token_hex(16), secret_in(given := tmp_path / "monitor-token")
    with RayNodes(jobs=True) as nodes, RedisServer(tcp=True, password=password, appendonly=True) as server:
        nodes.join()
        (elsewhere := nodes.folder / "monitor").mkdir()
        words = ["monitor", str(tmp_path), "--port", "0", "--host", "0.0.0.0", "--token-file", str(given)]
        monitor = execute(elsewhere, [*NEXUS, *words])
        options = ["--mode", "cluster", "--cluster.address", nodes.address, "--cluster.learner-nodes", "role=learner",
                   "--cluster.actor-nodes", "role=actors", "--replay", f"redis://127.0.0.1:{server.port}"]  # fmt: skip
        try:
            with environment_of(nodes), pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
                patch.setenv(VARIABLE, password)
                run = stack.enter_context(started(tmp_path, *options))
                wait_for(lambda: "http" in (elsewhere / "output.log").read_text(), "the monitor")
                own = [run, psutil.Process(monitor.pid), psutil.Process(server.pid)]
                assert_as_written("cluster", listeners(family([*own, *nodes.members()])))
                assert_nowhere(
                    [nodes.token, password, monitor_token], [tmp_path, nodes.folder], [given, nodes.folder / "token"]
                )
                refuses_without_a_token(nodes)
                with client(server.port, "") as stranger, pytest.raises(ValueError, match="requires a password"):
                    stranger.call("PING")
                patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
                with pytest.raises(ValueError, match="rejects the token"):
                    find_cluster(ClusterConfig(address=nodes.address))
        finally:
            monitor.terminate()
            monitor.wait(300)
