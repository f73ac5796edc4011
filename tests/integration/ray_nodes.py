"""A Ray cluster of two nodes on this machine, with a token: raylets with folders, labels and ports of their own."""

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import yaml
from ray import autoscaler
from ray._private.services import get_node_ip_address
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FakeMultiNodeProvider

from tests.replay.redis.redis_servers import free_port

MARK = "NODE_OF_TEST"
ROOT = Path(__file__).parents[2]
STARTING = 100.0  # seconds
TRIES = 3  # Ray gives a node 30 s to start, which a busy machine may not manage
STORE = 100 << 20
Groups = Mapping[str, tuple[int, int]]
"""Nodes that an autoscaler may start, by their label `role`: the CPUs of each, and the most of them."""
AUTOSCALED = {
    "RAY_enable_autoscaler_v2": "1", "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
}  # fmt: skip


class RayNodes:
    """A head labelled role=learner and, once `join` was called, a second node labelled role=actors that offers the
    resource `actors`. All processes end with the context. With `jobs` the head has a job server, and with `groups` an
    autoscaler, which starts nodes of its own."""

    def __init__(self, cpus: int = 3, protected: bool = True, jobs: bool = False, groups: Groups | None = None):
        self.cpus, self.protected, self.jobs, self.groups = cpus, protected, jobs, groups
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: sockets lie in it
        self.token = secrets.token_hex(32)
        self._file = self.folder / "token"
        self._file.touch(0o600)
        self._file.write_text(self.token)

    def __enter__(self) -> Self:
        try:
            port = free_port()
            self.job_server = f"http://127.0.0.1:{port}"
            said = self._start(
                "head", "--head", *(self._autoscaler() if self.groups else ["--port=0"]),
                f"--include-dashboard={str(self.jobs).lower()}", "--dashboard-host=127.0.0.1",
                f"--dashboard-port={port}", f"--num-cpus={self.cpus}", f"--ray-client-server-port={free_port()}",
                f"--labels=role={'head' if self.groups else 'learner'}",
            )  # fmt: skip
            found = re.search(r"ray start --address='([^']+)'", said)
            assert found, said
            self.address = found.group(1)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def join(self, name: str = "second", cpus: int = 4, hidden: Path | None = None) -> None:
        """Start another node, which sees an empty folder of its own in the place of `hidden`."""
        mount = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(hidden)]
        self._start(
            name, f"--address={self.address}", f"--num-cpus={cpus}", "--labels=role=actors",
            '--resources={"actors": 8}', before=mount if hidden else [],
        )  # fmt: skip

    def _autoscaler(self) -> list[str]:
        """Of Ray's second version, with nodes that it starts on this machine."""
        assert self.groups
        port, head = free_port(), "ray.head.default"
        types: dict[str, Any] = {head: {"resources": {"CPU": self.cpus}, "node_config": {}, "max_workers": 0}}
        for role, (cpus, most) in self.groups.items():
            offers = {"CPU": cpus, "object_store_memory": STORE}
            types[role] = {"resources": offers, "node_config": {}, "labels": {"role": role}, "max_workers": most}
        provider = {
            "type": "external", "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}",
            "launch_multiple": True, "disable_node_updaters": True, "head_node_id": FAKE_HEAD_NODE_ID,
            "gcs_address": f"{get_node_ip_address()}:{port}",
        }  # fmt: skip
        defaults = yaml.safe_load((Path(autoscaler.__file__).parent / "local" / "defaults.yaml").read_text())
        config = defaults | {
            "cluster_name": "fake", "max_workers": 8, "head_node_type": head, "available_node_types": types,
            "provider": provider, "idle_timeout_minutes": 1,
        }  # fmt: skip
        (file := self.folder / "autoscaler.json").write_text(json.dumps(config))
        return [f"--port={port}", f"--autoscaling-config={file}"]

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which a command joins."""
        return {"RAY_AUTH_TOKEN_PATH": str(self._file)} if self.protected else {}

    def kill(self, node: str) -> None:
        """SIGKILL to the raylet of `head` or `second`, and for the head to its GCS too."""
        for process in self.members(node):
            with contextlib.suppress(psutil.Error):
                if process.name() in ("raylet", "gcs_server"):
                    process.kill()

    def members(self, node: str = "") -> list[psutil.Process]:
        """The processes of a node, workers included; without a name, of both."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mark = process.environ().get(MARK, "")
                if mark == f"{self.folder}/{node}" or not node and mark.startswith(f"{self.folder}/"):
                    found.append(process)
        return found

    def _start(self, node: str, *arguments: str, before: Sequence[str] = ()) -> str:
        folder = self.folder / node
        folder.mkdir()
        mode = {"RAY_AUTH_MODE": "token" if self.protected else "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= mode | self.environment | {"PYTHONPATH": str(ROOT), MARK: str(folder), "TMPDIR": str(folder)}
        environment |= AUTOSCALED if self.groups else {}
        command = [*before, sys.executable, "-m", "ray.scripts.scripts", "start", f"--temp-dir={folder}"]
        command += [f"--object-store-memory={STORE}", "--disable-usage-stats", "--dashboard-agent-listen-port=0"]
        for _ in range(TRIES):
            done = subprocess.run(
                [*command, *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                text=True, timeout=STARTING,
            )  # fmt: skip
            if done.returncode == 0:
                return done.stdout
            self._end_processes(node)
        raise AssertionError(done.stdout + done.stderr)

    def _end_processes(self, node: str = "") -> None:
        for process in (members := self.members(node)):
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(members, timeout=60)

    def _end(self) -> None:
        self._end_processes()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def environment_of(nodes: RayNodes) -> Iterator[None]:
    """Commands started in the block find the token."""
    before: Mapping[str, str] = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        del os.environ[name]
    os.environ.update(nodes.environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
