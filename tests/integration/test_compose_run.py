"""The services of docker-compose.yml, with their own commands, in namespaces in place of containers: a run of cluster
mode trains, is scaled, refuses whoever has no secret, and continues."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from deploy.commands.train import parse_train
from deploy.launch.compose import secrets
from deploy.launch.compose.config import ComposeConfig
from deploy.launch.compose.target import Compose
from deploy.launch.sweep import jobs
from tests.deploy.launch.compose.test_target import FILE, read
from tests.integration.containers import Containers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

OPTIONS = (
    "--preset", "quick", "--frames", "1000000", "--actor.actors", "1", "--actor.environments", "1",
    "--report-every", "0", "--checkpoint-every", "20", "--log-every", "5", "--learner.train-ratio", "8",
)  # fmt: skip
NAME = "gym-cartpole-v1-seed0"


def until(look: Callable[[], Any], containers: Containers, timeout: float = 300.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, containers.log("learner")
        containers.restart()
        time.sleep(1)
    return found


def test_a_run_trains_is_scaled_and_continues(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    secrets.make(folder)
    ((name, text),) = (
        Compose(ComposeConfig())
        .files(jobs(["gym:CartPole-v1"], [0], [], OPTIONS, parse_train, PurePosixPath("/runs")))
        .items()
    )
    (tmp_path / name).write_text(text)
    user, group = map(str, secrets.owner())
    project = read(
        FILE, tmp_path / name, NEXUS_SECRETS=str(folder), NEXUS_UID=user, NEXUS_GID=group, REDIS_MAXMEMORY="200mb"
    )
    tmp_path.chmod(0o755)
    run = tmp_path / "volumes" / "runs" / NAME

    def status() -> dict[str, Any]:
        try:
            return dict(json.loads((run / "status.json").read_text()))
        except (OSError, ValueError):
            return {}

    replicas = {"redis-0": 1, "redis-1": 1, "ray-head": 1, "actor": 2, "prometheus": 1, "learner": 1, "monitor": 1}
    with Containers(project, tmp_path, replicas) as containers:
        for one in ("redis-0", "redis-1", "ray-head", "actor-1"):
            containers.start(one)
        containers.start("learner", wait=False)
        until(lambda: status().get("updates", 0) > 25, containers)
        assert status()["actors"]["running"] == 1 and len(status()["replay"]["shards"]) == 2
        scraped = containers.run("learner", "python", "-c", READ, "http://127.0.0.1:9100/metrics").stdout
        assert "nexus_learner_updates_total" in scraped
        assert set(re.findall(r'nexus_replay_up\{shard="(.*)"\} 1', scraped)) == {"shard-0", "shard-1"}

        containers.start("actor-2")
        scaled = containers.run("learner", "nexus", "scale", f"/runs/{NAME}", "--actors", "2")
        assert scaled.returncode == 0, scaled.stdout + scaled.stderr
        until(lambda: status()["actors"]["running"] == 2, containers)
        nodes = {one["node"] for one in status()["actors"]["each"].values()}
        assert len(nodes) == 2

        containers.start("monitor", wait=False)
        until(lambda: "Nexus monitor" in containers.log("monitor"), containers)
        asked = containers.run("ray-head", "python", "-c", READ, "http://monitor:6060/api/runs")
        assert "401" in asked.stderr
        refused = containers.run("ray-head", "python", "-c", READ, "http://127.0.0.1:8265/api/jobs/")
        assert "401" in refused.stderr
        denied = containers.run("monitor", "python", "-c", PING)
        assert "NOAUTH" in denied.stdout

        before = status()
        containers.run("learner", "nexus", "stop", f"/runs/{NAME}")  # is killed with the container, perhaps too soon
        assert containers.ended("learner") == 0, containers.log("learner")
        assert status()["state"] == "ended" and status()["updates"] >= before["updates"]
        saved = status()["updates"]
        containers.start("learner", wait=False)
        until(lambda: status().get("state") == "training" and status()["updates"] > saved, containers)
        for secret in secrets.NAMES:
            value = (folder / secret).read_text()
            assert value not in "".join(map(containers.log, ("learner", "ray-head", "monitor", "redis-0", "actor-1")))
            written = [file for file in run.rglob("*") if file.suffix in (".json", ".yaml", ".jsonl", ".log")]
            assert written and not [file for file in written if value in file.read_text(errors="replace")]


READ = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=10).read().decode())"
PING = (
    "import socket; s = socket.create_connection(('redis-0', 6379), 10); s.sendall(b'PING\\r\\n'); "
    "print(s.recv(100).decode())"
)
