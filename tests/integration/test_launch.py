"""Runs launched on a Ray cluster of two nodes with a token, their replay on two Redis servers with a password: watched,
scaled, stopped, launched again, several at once, and continued on a new cluster after the head was killed."""

import http.client
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy.stored.control import active
from deploy.stored.run_status import read_status
from deploy.stored.sources import open_sources
from deploy.wiring.redis_password import PASSWORD_FILE, VARIABLE
from tests.integration.processes import end_all, having, start_marked
from tests.integration.ray_nodes import RayNodes, environment_of
from tests.integration.runs import NEXUS, TINY, checkpoints, environment, lines, wait_for
from tests.replay.redis.redis_servers import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PASSWORD = "correct-horse"
OPTIONS = [*TINY, "--log-every", "10", "--checkpoint-every", "100", "--frames", "1000000"]


class User:
    """Somebody at one of the machines, in a folder of their own."""

    def __init__(self, folder: Path, nodes: RayNodes):
        self.folder, self.nodes = folder, nodes

    @contextmanager
    def _environment(self) -> Iterator[None]:
        with environment_of(self.nodes):
            os.environ |= {"NEXUS_HOME": str(self.folder / "home"), PASSWORD_FILE: str(self.folder / "password")}
            os.environ.pop(VARIABLE, None)
            yield

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        with self._environment():
            return start_marked(self.folder, [*NEXUS, *arguments])

    def nexus(self, *arguments: str, code: int = 0, **variables: str) -> str:
        with self._environment():
            os.environ |= variables
            done = subprocess.run(
                [*NEXUS, *arguments], cwd=self.folder, env=environment(), capture_output=True, text=True, timeout=500
            )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def launch(self, *arguments: str, code: int = 0) -> str:
        return self.nexus("launch", *arguments, "--address", self.nodes.job_server, "--detach", code=code)

    def jobs(self) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in map(json.loads, self.nexus("jobs", "--json").splitlines())}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text(PASSWORD)
    yield tmp_path
    end_all(tmp_path)


@contextmanager
def _redis() -> Iterator[str]:
    with ExitStack() as stack:
        servers = [stack.enter_context(RedisServer(tcp=True, password=PASSWORD, appendonly=True)) for _ in range(2)]
        yield ",".join(f"redis://127.0.0.1:{server.port}" for server in servers)


def _updates(logdir: Path) -> int:
    return max((line["updates"] for line in lines(logdir / "metrics.jsonl")), default=0)


def _trains(logdir: Path, more: int = 20) -> None:
    before = _updates(logdir)
    wait_for(lambda: _updates(logdir) >= before + more, f"{more} updates", 300)


def _ask(page: str, path: str, body: Any = None) -> Any:
    address = urlsplit(page)
    with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=100)) as line:
        sent = {"content-type": "application/json"} if body else {}
        line.request("POST" if body else "GET", path, json.dumps(body) if body else None, sent)
        answer = line.getresponse()
        assert answer.status == 200, answer.read()
        return json.loads(answer.read())


def test_a_run_is_launched_watched_scaled_stopped_and_launched_again(folder: Path) -> None:
    logdir = folder / "runs" / "walk"
    with RayNodes(cpus=4, jobs=True) as nodes, _redis() as urls:
        nodes.join(cpus=6)
        user = User(folder, nodes)
        launch = ["gym:CartPole-v1", *OPTIONS, "--replay", urls, "--actor.actors", "2", "--logdir", "runs/walk"]
        assert "launched walk (ray job walk-" in user.launch(*launch)
        _trains(logdir)
        assert "which has not ended; nexus stop walk --address http" in user.launch(*launch, code=2)
        assert "walk is the name of a run in" in user.launch(*launch[:-1], "elsewhere/walk", code=2)
        said = user.nexus("jobs", "--address", nodes.job_server, code=1, RAY_AUTH_TOKEN="0" * 64)
        assert "refuses the token of this user" in said and "Traceback" not in said
        assert user.jobs()["walk"]["state"] == "training"

        assert "actors 2 -> 6" in user.nexus("scale", "walk", "--actors", "6")
        monitor = user.start("monitor", "runs", "--port", "0")
        page = wait_for(lambda: re.search(r"http://\S+", (folder / "output.log").read_text()), "the page").group()
        [run] = wait_for(lambda: _ask(page, "/api/runs")["runs"], "the run on the page")
        assert run["path"] == str(logdir) and run["state"] == "training"
        _ask(page, f"/api/runs/{run['id']}/control", {"actors": 1})
        wait_for(lambda: read_status(logdir)["actors"]["running"] == 1 == len(read_status(logdir)["actors"]["each"]),
                 "one actor")  # fmt: skip
        monitor.terminate()
        monitor.wait(300)
        _trains(logdir)
        assert "1 actor is acting" in user.nexus("scale", "walk", "--actors", "1")

        said = user.nexus("stop", "walk")
        saved = re.search(r"walk has ended, saved at ([\d,]+) frames, update ([\d,]+)", said)
        assert saved and checkpoints(logdir)[-1] == int(saved.group(2).replace(",", "")), said
        assert user.jobs()["walk"]["state"] == "stopped" and not having(nodes.members(), "learner_process")
        assert "Stopped and saved" in user.nexus("logs", "walk")

        following = user.start("launch", *launch, "--address", nodes.job_server)
        wait_for(lambda: "Continuing" in (folder / "output.log").read_text(), "the run to continue")
        _trains(logdir)
        following.send_signal(2)
        assert following.wait(300) == 130 and "walk goes on" in (folder / "output.log").read_text()
        said = user.nexus("logs", "walk")
        assert f"Continuing {logdir} at {saved.group(1)} frames, update {saved.group(2)}" in said
        assert user.jobs()["walk"]["frames"] > int(saved.group(1).replace(",", ""))

        # No secret where others may see it.
        listed = user.nexus("jobs", "--address", nodes.job_server, "--json")
        told = listed + said + (folder / "output.log").read_text() + str([one.cmdline() for one in nodes.members()])
        told += "".join(path.read_text() for path in (folder / "home" / "jobs").iterdir())
        assert nodes.token not in told and PASSWORD not in told
        user.nexus("stop", "walk")


MINE = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

gym.register("Mine-v0", CartPoleEnv, max_episode_steps=200)

def result(line):
    return {"mine/seen": 1.0}
"""


def test_a_sweep_with_code_of_its_own_is_placed_as_the_cluster_has_room(folder: Path) -> None:
    (folder / "mine.py").write_text(MINE)  # nowhere else
    (folder / "password").unlink()  # nobody needs it
    with RayNodes(cpus=3, jobs=True) as nodes:
        nodes.join(cpus=2)
        user = User(folder, nodes)
        sweep = ["gym:CartPole-v1", "gym:mine:Mine-v0", "--seeds", "0", "1", *TINY, "--frames", "200"]
        options = ["--actor.actors", "2", "--log-every", "10", "--hooks.on-train-result", "mine:result"]
        said = user.launch(*sweep, *options, "--logdir", "sweep")
        names = [f"gym-{task}-seed{seed}" for task in ("cartpole-v1", "mine-mine-v0") for seed in (0, 1)]
        assert re.findall(r"launched (\S+)", said) == names

        def ended() -> bool:
            jobs = user.jobs()
            return all(jobs[name]["state"] == "ended" for name in names)

        wait_for(ended, "all to end", 800)
        # By the runs' own times: `nexus jobs` looks at one after the other.
        runs = [folder / "sweep" / name for name in names]
        first = [json.loads((run / "metrics.jsonl").read_text().partition("\n")[0])["time"] for run in runs]
        spans = sorted((begin, read_status(run)["time"]) for begin, run in zip(first, runs, strict=True))
        in_turn = all(end <= begin for (_, end), (begin, _) in pairwise(spans))
        assert in_turn, f"five CPUs hold one run of a learner and two actors: {spans}"
        for name in names:
            assert read_status(folder / "sweep" / name)["frames"] >= 200
            assert lines(folder / "sweep" / name / "metrics.jsonl")[-1]["mine/seen"] == 1.0


def test_a_run_whose_head_is_killed_continues_on_a_new_cluster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, PASSWORD)  # of this process, which looks into the servers
    logdir = folder / "runs" / "walk"
    launch = ["gym:CartPole-v1", *OPTIONS, "--actor.actors", "2", "--logdir", "runs/walk"]
    with _redis() as urls:
        with RayNodes(cpus=3, jobs=True) as nodes:
            nodes.join(cpus=3)
            user = User(folder, nodes)
            user.launch(*launch, "--replay", urls)
            wait_for(lambda: checkpoints(logdir), "a checkpoint", 300)
            _trains(logdir)
            kept, stored = checkpoints(logdir)[-1], _stored(logdir)
            killed = time.monotonic()
            nodes.kill("head")
            wait_for(lambda: not active(logdir), "the supervisor to end", 100)
            assert user.jobs()["walk"]["state"] == "unreachable"
        with RayNodes(cpus=3, jobs=True) as nodes:
            nodes.join(cpus=3)
            user = User(folder, nodes)
            user.launch(*launch, "--replay", urls)
            wait_for(lambda: "Continuing" in user.nexus("logs", "walk"), "the run to continue")
            said = user.nexus("logs", "walk")
            found = re.search(r"Continuing \S+ at ([\d,]+) frames, update ([\d,]+)\.", said)
            assert found and int(found.group(2).replace(",", "")) >= kept, said
            now = _stored(logdir)
            assert all(now[stream].stop >= steps.stop and now[stream].start == steps.start
                       for stream, steps in stored.items())  # fmt: skip
            _trains(logdir)
            print(f"from the head's end to the next updates: {time.monotonic() - killed:.0f} s")
            done = int(found.group(1).replace(",", ""))
            wait_for(lambda: read_status(logdir).get("frames", 0) > done, "new frames")
            frames = [line["frames"] for line in lines(logdir / "metrics.jsonl")]
            assert frames == sorted(frames)
            user.nexus("stop", "walk")


def _stored(logdir: Path) -> dict[int, range]:
    """The steps of every stream on the servers."""
    streams: dict[int, range] = {}
    for reader in open_sources(str(logdir)):
        with closing(reader):
            streams |= reader.streams()
    return streams
