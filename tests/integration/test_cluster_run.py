"""Runs that join a Ray cluster: two nodes of this machine, with a token, the learner on the first and the actors on the
second, which is killed."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from actors.config import ActorConfig
from deploy.distributed.cluster.capacity import find_room
from deploy.distributed.cluster.probe import find_cluster
from deploy.wiring.config import ClusterConfig, RunConfig
from tests.integration.processes import end_all, start_marked
from tests.integration.ray_nodes import RayNodes, environment_of
from tests.integration.runs import NEXUS, checkpoints, command, environment, lines, run, wait_for

MINE = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv
import replay_of_mine

class Mine(CartPoleEnv):
    pass

gym.register("Mine-v0", Mine, max_episode_steps=200)
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    with RayNodes() as both:
        both.join()
        yield both


@pytest.fixture
def logdir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    end_all(tmp_path)


def _command(nodes: RayNodes, logdir: Path, *more: str, task: str = "gym:CartPole-v1") -> list[str]:
    return command(
        task, logdir, "--mode", "cluster", "--cluster.address", nodes.address, "--actor.actors", "2",
        "--cluster.learner-nodes", "role=learner", "--cluster.actor-nodes", "role=actors", "--log-every", "10",
        "--checkpoint-every", "50", "--frames", "1000000", *more,
    )  # fmt: skip


def _start(nodes: RayNodes, logdir: Path, arguments: list[str]) -> subprocess.Popen[str]:
    with environment_of(nodes):
        return start_marked(logdir.parent, arguments)


def _output(logdir: Path) -> str:
    return (logdir.parent / "output.log").read_text()


def _updates(logdir: Path) -> int:
    return max((line["updates"] for line in lines(logdir / "metrics.jsonl")), default=0)


def test_a_run_outlives_the_node_of_its_actors(nodes: RayNodes, logdir: Path) -> None:
    (logdir.parent / "mine.py").write_text(MINE)  # nowhere else
    (logdir.parent / "replay_of_mine.py").touch()
    (logdir.parent / "replay.py").write_text("raise ImportError('this is not ours')")
    going = _start(nodes, logdir, _command(nodes, logdir, task="gym:mine:Mine-v0"))
    wait_for(lambda: _updates(logdir) >= 20, "update 20")
    wait_for(lambda: len(_places(nodes)) == 5, "the title of every process")
    where = _places(nodes)
    assert where["ray::actor-0"] == where["ray::actor-1"] == "second", where
    assert where["learner_process"] == where["ray::shard-0"] == where["ray::coordinator"] == "head"

    # It is steered by who has the cluster's token, and does not see its directory.
    done = _steer(nodes, "checkpoint", "run")
    assert done.returncode == 0 and Path(done.stdout.strip(), "model.safetensors").exists(), done.stderr
    done = _steer(nodes, "scale", "another", "--actors", "3")
    assert done.returncode == 2 and re.search(rf"No run .* match 'another'; active there: {logdir}", done.stderr)
    done = _steer(nodes, "scale", "run", "--actors", "3")
    assert done.returncode == 0 and "actors 2 -> 3" in done.stdout, done.stdout + done.stderr
    wait_for(lambda: _places(nodes).get("ray::actor-2") == "second", "the title of the third actor")

    # What is killed on the node of the learner comes back there, and another parent is told by its end.
    [learner] = _named(nodes, "deploy.distributed.learner_process")
    os.kill(learner, signal.SIGKILL)
    wait_for(lambda: "the learner died (signal 9)" in _output(logdir), "the supervisor to notice")
    wait_for(lambda: _named(nodes, "deploy.distributed.learner_process"), "the learner to come back")

    # Of the node of the actors, one finds room on the other; the second waits, and the run goes on without it.
    nodes.kill("second")
    wait_for(lambda: "no node with role=actors is left" in _output(logdir), "the run to say so")
    wait_for(lambda: re.search(r"actor \d waits for a free CPU", _output(logdir)) or _back(logdir) == 2, "the fleet")
    wait_for(lambda: _back(logdir) >= 1, "an actor to come back")
    before = _updates(logdir)
    wait_for(lambda: _updates(logdir) >= before + 20, "training with the fleet that is left")
    going.send_signal(signal.SIGINT)
    assert going.wait(300) == 130, _output(logdir)
    assert "Stopped and saved" in _output(logdir) and checkpoints(logdir)[-1] >= _updates(logdir)
    wait_for(lambda: not _named(nodes, "learner_process", "ray::actor", "ray::shard"), "all processes to end")
    said = _output(logdir) + (logdir / "learner.log").read_text()
    assert nodes.token not in said and not re.findall(r".*(?:\(raylet|pid=|\bW \d+ \d+\]).*", said), said


def _steer(nodes: RayNodes, *arguments: str) -> subprocess.CompletedProcess[str]:
    with environment_of(nodes):
        return subprocess.run(
            [*NEXUS, *arguments, "--address", nodes.address], capture_output=True, text=True, timeout=500,
            cwd=nodes.folder, env=environment(),
        )  # fmt: skip


def _back(logdir: Path) -> int:
    return len(set(re.findall(r"(actor \d) is back after", _output(logdir))))


def _named(nodes: RayNodes, *parts: str) -> list[int]:
    return [
        process.pid for process in nodes.members()
        if any(part in word for part in parts for word in process.cmdline())
    ]  # fmt: skip


def _places(nodes: RayNodes) -> dict[str, str]:
    """The node of each process of the run, by a part of its command line (Ray appends the method that runs)."""
    names = ("ray::actor-0", "ray::actor-1", "ray::actor-2", "ray::shard-0", "ray::coordinator", "learner_process")
    return {name: node for node in ("head", "second") for name in names if _on(nodes, node, name)}


def _on(nodes: RayNodes, node: str, name: str) -> bool:
    for process in nodes.members(node):
        with suppress(psutil.Error):  # it may just have ended
            if any(name in word for word in process.cmdline()):
                return True
    return False


def test_what_keeps_a_run_from_joining_is_said_in_one_message(nodes: RayNodes, tmp_path: Path) -> None:
    with environment_of(nodes):
        os.environ["RAY_AUTH_TOKEN"] = "0" * 64
        done = run(tmp_path, _command(nodes, tmp_path / "refused"), timeout=500)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stdout + done.stderr
    assert "rejects the token of RAY_AUTH_TOKEN: use the token" in done.stderr and "0000" not in done.stderr
    assert not (tmp_path / "refused" / "config.yaml").exists()


def test_a_cluster_is_refused_for_what_it_lacks(nodes: RayNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(message: str, actors: int = 1, **cluster: str) -> None:
        cluster = {"address": nodes.address, "learner_nodes": "role=learner", **cluster}
        actor = ActorConfig(actors=actors, environments=actors)
        config = RunConfig(task="gym:CartPole-v1", mode="cluster", cluster=ClusterConfig(**cluster), actor=actor)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=message):
            find_room(config)

    with environment_of(nodes):
        with _other_versions(nodes):
            refused("runs Ray 2.0.0 on Python 3.8.1, but this command Ray")
        refused("but actor.actors=100", 100)
        refused("matches cluster.actor_nodes=role=gpu; it has", actor_nodes="role=gpu")
        refused("No Ray cluster answers at 127.0.0.1:9: Connection refused", address="127.0.0.1:9")
        refused("No Ray cluster answers at nobody.invalid:6379", address="nobody.invalid:6379")
        with monkeypatch.context() as patch:  # undone before the block puts the environment back
            patch.setenv("HOME", str(nodes.folder / "nobody"))
            patch.delenv("RAY_AUTH_TOKEN_PATH")
            refused("requires a token, and there is none here")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setattr("deploy.distributed.cluster.probe.LOOKING", 4.0)
        refused("takes connections, but does not answer as the head", address=f"127.0.0.1:{mute.getsockname()[1]}")


@contextmanager
def _other_versions(nodes: RayNodes) -> Iterator[None]:
    """The cluster says of itself what one of other versions would."""
    for back in (False, True):
        code = f"""
import json, sys
from ray._raylet import GcsClient
client = GcsClient(address=sys.argv[1])
own = json.loads(client.internal_kv_get(b"CLUSTER_METADATA", b"cluster"))
own = own["own"] if {back} else {{"ray_version": "2.0.0", "python_version": "3.8.1", "own": own}}
client.internal_kv_put(b"CLUSTER_METADATA", json.dumps(own).encode(), True, b"cluster")
"""
        variables = {**os.environ, "RAY_AUTH_MODE": "token"}
        subprocess.run([sys.executable, "-c", code, nodes.address], env=variables, check=True, timeout=500)
        if not back:
            yield


@pytest.mark.parametrize("address", ["head", "ray://head:10001", "head:http", ":6379", "local"])
def test_an_address_is_host_and_port(address: str) -> None:
    with pytest.raises(ValueError, match="is not of the form HOST:PORT"):
        find_cluster(ClusterConfig(address=address))


def test_without_an_address_the_command_says_how_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ValueError, match=r"give --cluster.address HOST:PORT, or `auto`"):
        find_cluster(ClusterConfig())
    with pytest.raises(ValueError, match="RAY_ADDRESS=x is not of the form"):
        monkeypatch.setenv("RAY_ADDRESS", "x")
        find_cluster(ClusterConfig())
