"""A job in containers. Torch-free."""

import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Self

import yaml

from deploy.exit_codes import INTERRUPTED
from deploy.launch import records
from deploy.launch.compose import secrets
from deploy.launch.compose.config import ComposeConfig
from deploy.launch.job import Job
from deploy.launch.lifecycle import require_over
from deploy.launch.programs import ask, lines
from deploy.launch.target import Launched, State
from deploy.run_failed import RunFailedError
from replay.files.whole_file import whole_file

REPLAY = "redis://redis-0,redis://redis-1"
ADDRESS = "ray-head:6380"
METRICS = 9100  # where deploy/monitor/provisioning/prometheus.yml looks
RUNS = PurePosixPath("/runs")
ANSWERING = 60.0  # seconds
BUILDING = 3600.0  # seconds, for images from nothing
STATES: dict[str, State] = {
    "created": "waiting", "restarting": "waiting", "paused": "waiting", "running": "running", "removing": "stopped",
}  # fmt: skip


class Compose:
    """One job: a project of Docker Compose, named as the job."""

    runs: PurePosixPath | None = RUNS
    final = False  # `docker compose up` continues it

    def __init__(self, config: ComposeConfig):
        self.config = config

    @classmethod
    def of(cls, place: str) -> Self:
        """That of a job, by its `place`."""
        return cls(ComposeConfig(secrets=place))

    def files(self, jobs: Sequence[Job]) -> dict[str, str]:
        """See `Target`; to be given to Compose after docker-compose.yml."""
        job = _only(jobs)
        return {f"{job.name}.yml": yaml.safe_dump(override(self.config, job), sort_keys=False)}

    def launch(self, jobs: Sequence[Job]) -> Iterator[Launched]:
        job, ((name, text),) = _only(jobs), self.files(jobs).items()
        file = Path(self.config.file).absolute()
        if not file.is_file():
            raise ValueError(f"{file} does not exist: --target compose builds the images, in a checkout of Nexus.")
        compose = self._project(job.name)
        require_over(job.name, compose.state()[0])
        secrets.make(compose.secrets)
        place = records.folder().parent / "compose" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(place) as fresh:
            fresh.write_text(text)
        yield Launched(
            name=job.name, target="compose", id=compose.name, place=str(compose.secrets), task=job.config.task,
            logdir=job.config.logdir, time=time.time(),
        )  # fmt: skip
        compose.build_and_start(file, place)

    def state(self, job: Launched) -> tuple[State, str]:
        try:
            return self._project(job.name).state()
        except RunFailedError as error:
            return "unreachable", str(error)

    def logs(self, job: Launched, follow: bool) -> Iterator[str]:
        return self._project(job.name).logs(follow)

    def stop(self, job: Launched, timeout: float) -> str:
        compose, wait = self._project(job.name), max(1, int(timeout))
        state, _ = compose.state()
        said = "it was waiting" if state == "waiting" else "it had ended"
        if state == "running":  # not by `exec`: a command in a container is killed when that ends
            compose.run("stop", "--timeout", str(wait), "learner", timeout=timeout + ANSWERING)
            code = compose.exit_code()
            said = "it has saved and ended" if code in (0, INTERRUPTED) else f"it has ended unsaved, with code {code}"
        compose.run("down", timeout=timeout + ANSWERING)
        return f"{said}; its containers are removed, its volumes kept"

    def _project(self, name: str) -> "_Project":
        return _Project(name, Path(self.config.file).absolute().parent / self.config.secrets)


def override(config: ComposeConfig, job: Job) -> dict[str, Any]:
    """What the job changes in docker-compose.yml. ValueError: it does not fit in there."""
    logdir, cluster = PurePosixPath(job.config.logdir), job.config.cluster
    if not (logdir.is_relative_to(RUNS) and logdir != RUNS):
        raise ValueError(f"--logdir {logdir} is not below {RUNS}, where the containers see the volume of their runs.")
    each = int(config.actor_cpus / cluster.actor_cpus + 1e-9)
    if not each:
        raise ValueError(
            f"cluster.actor_cpus={cluster.actor_cpus:g} is more than the compose.actor_cpus={config.actor_cpus} of a "
            "container."
        )
    more = ["--cluster.address", ADDRESS, "--cluster.wait", "True", "--metrics-port", str(METRICS)]
    if not cluster.learner_nodes:
        more += ["--cluster.learner-nodes", "role=learner"]
    if not cluster.actor_nodes:
        more += ["--cluster.actor-nodes", "role=actors"]
    if job.config.replay.store == "memory":
        more += ["--replay", REPLAY]
    learner: dict[str, Any] = {"command": [word.replace("$", "$$") for word in job.command(*more)]}
    if config.gpu:
        device = {"driver": "nvidia", "count": job.config.learner.processes, "capabilities": ["gpu"]}
        learner["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    node = [
        "ray",
        "start",
        f"--address={ADDRESS}",
        "--labels=role=actors",
        f"--num-cpus={config.actor_cpus}",
        "--block",
    ]
    replicas = 1 if job.config.offline else math.ceil(job.config.actor.actors / each)
    actor = {"command": node, "deploy": {"replicas": replicas}}
    return {"services": {"learner": learner, "actor": actor}}


class _Project:
    """Compose, asked about one project with a time-out."""

    def __init__(self, name: str, folder: Path):
        """ValueError: there is no Docker Compose."""
        self.name, self.secrets = f"nexus-{name}", folder
        plugin = _has_plugin()
        if not plugin and not shutil.which("docker-compose"):
            raise ValueError(
                "--target compose needs Docker Compose, which is not installed here; install it, or write its file "
                "with --dry-run --out FOLDER and use it elsewhere."
            )
        program = ["docker", "compose"] if plugin else ["docker-compose"]
        self._command = [*program, "--project-name", self.name]
        user, group = secrets.owner()
        self._environment = {"NEXUS_SECRETS": str(folder), "NEXUS_UID": str(user), "NEXUS_GID": str(group)}

    def run(self, *arguments: str, timeout: float = ANSWERING) -> str:
        """A command of Compose; its output."""
        return ask([*self._command, *arguments], "docker compose", timeout, environment=self._environment)

    def build_and_start(self, *files: Path) -> None:
        """Start the services of these files; what is built for that is printed."""
        given = [word for file in files for word in ("--file", str(file))]
        command = [*self._command, *given, "up", "--detach", "--build"]
        try:
            done = subprocess.run(
                command, env=os.environ | self._environment, stdin=subprocess.DEVNULL, timeout=BUILDING
            )
        except subprocess.TimeoutExpired:
            raise RunFailedError(f"docker compose up has not ended within {BUILDING:g} s.") from None
        if done.returncode:
            raise RunFailedError(f"docker compose up has failed with exit code {done.returncode}.")

    def state(self) -> tuple[State, str]:
        """What the learner's container does."""
        if not (found := self._learner()):
            return "gone", ""
        if found["State"] == "exited":
            code = found.get("ExitCode", 0)
            return ("failed", f"it ended with exit code {code}") if code else ("ended", "")
        return STATES.get(found["State"], "failed"), found.get("Status", "")

    def exit_code(self) -> int:
        """Of the learner's container, which has ended."""
        return int(self._learner().get("ExitCode", 0))

    def _learner(self) -> dict[str, Any]:
        said = self.run("ps", "--all", "--format", "json", "learner")
        return dict(json.loads(said.splitlines()[0])) if said.strip() else {}

    def logs(self, follow: bool) -> Iterator[str]:
        """What the learner's container has printed, and prints."""
        command = [*self._command, "logs", "--no-log-prefix", *(["--follow"] if follow else []), "learner"]
        return lines(command, "docker compose logs", self._environment)


def _only(jobs: Sequence[Job]) -> Job:
    if len(jobs) != 1:
        raise ValueError(
            f"--target compose runs one job on this machine, and these are {len(jobs)}; start a Ray cluster and use "
            "--target ray, which queues them."
        )
    return jobs[0]


def _has_plugin() -> bool:
    """Whether `docker compose` is here."""
    if shutil.which("docker"):
        with suppress(RunFailedError):
            return bool(ask(["docker", "compose", "version"], "docker compose", ANSWERING))
    return False
