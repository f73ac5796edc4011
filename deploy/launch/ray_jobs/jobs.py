"""Jobs of a Ray cluster. Each is the supervisor of a run, which starts the run's other processes on the cluster itself.
Torch-free."""

import json
import os
import secrets
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Self

from ray.job_submission import JobDetails

from deploy.distributed.cluster.user_code import FOLDER, named_module, runtime_environment
from deploy.launch.job import Job
from deploy.launch.lifecycle import await_end, over_before
from deploy.launch.ray_jobs.config import RayJobsConfig, address_of, pairs
from deploy.launch.ray_jobs.server import JobServer
from deploy.launch.target import OVER, Launched, State, has_ended
from deploy.run_failed import RunFailedError
from deploy.wiring.redis_password import PASSWORD_FILE
from replay.redis_url import URLS

POLL = 0.5  # seconds between looks at a job that is to end
SAVING = 600  # seconds that a job has to save after SIGTERM; Ray gives 3
_STATES: Mapping[str, State] = {
    "PENDING": "waiting", "RUNNING": "running", "SUCCEEDED": "ended", "FAILED": "failed", "STOPPED": "stopped",
}  # fmt: skip


class RayJobs:
    """The job server of a cluster, at `http://HOST:PORT`, as a target."""

    runs: PurePosixPath | None = None
    final = True

    def __init__(self, config: RayJobsConfig, address: str):
        self.config, self.address = config, address
        self._server: JobServer | None = None

    @classmethod
    def of(cls, place: str) -> Self:
        """That of a job, by its `place`, or at a given address. ValueError: it is malformed."""
        return cls(RayJobsConfig(), address_of(place))

    def files(self, jobs: Sequence[Job]) -> dict[str, str]:
        return {f"{job.name}.json": json.dumps(self._request(job), indent=2) + "\n" for job in jobs}

    def launch(self, jobs: Sequence[Job]) -> Iterator[Launched]:
        active = {
            one.metadata.get("logdir"): (one.submission_id, one.metadata.get("name"))
            for one in self.server.jobs() if one.metadata and _STATES[one.status] not in OVER
        }  # fmt: skip
        for job in jobs:
            if (logdir := job.config.logdir) in active:
                submission, name = active[logdir]
                raise ValueError(
                    f"{logdir} is that of the job {submission}, which has not ended; "
                    f"nexus stop {name} --address {self.address} ends it."
                )
        if not self.server.protected:
            print(
                f"warning: the Ray cluster at {self.address} has no token authentication: whoever reaches it can run "
                "programs on its nodes. Start every node with RAY_AUTH_MODE=token.", file=sys.stderr,
            )  # fmt: skip
        for job in jobs:
            logdir, request = job.config.logdir, self._request(job)
            yield Launched(
                name=job.name, target="ray", id=request["submission_id"], place=self.address, task=job.config.task,
                logdir=logdir, time=time.time(),
            )  # fmt: skip
            with runtime_environment(job.config, Path.cwd(), Path(logdir), hooks=True) as environment:
                request["runtime_env"] |= environment or {}
                self.server.submit(**request)

    def everything(self) -> list[Launched]:
        """The newest job of each run on the cluster, whoever has launched it, newest first."""
        found = {}
        for one in self.server.jobs():
            about = one.metadata or {}
            state, why = _judge(one)
            if {"name", "task", "logdir"} <= about.keys():
                found[about["logdir"]] = Launched(
                    target="ray", id=str(one.submission_id), place=self.address, time=(one.start_time or 0) / 1000,
                    name=about["name"], task=about["task"], logdir=about["logdir"],
                    state=state if has_ended(state) else "", why=why,
                )  # fmt: skip
        return sorted(found.values(), key=lambda one: -one.time)

    def find(self, name: str) -> Launched:
        """The newest job of a run, by its name or its run directory, whoever has launched it. ValueError: there is
        none."""
        there = self.everything()
        for one in there:
            if name in (one.name, one.logdir):
                return one
        known = ", ".join(dict.fromkeys(one.name for one in there)) or "none"
        raise ValueError(f"The cluster at {self.address} has no job of a run {name!r}; there are: {known}.")

    def state(self, job: Launched) -> tuple[State, str]:
        try:
            found = self.server.job(job.id)
        except RunFailedError as error:
            return "unreachable", str(error)
        if found is None:
            return "gone", f"the cluster at {self.address} does not know it"
        return _judge(found)

    def logs(self, job: Launched, follow: bool) -> Iterator[str]:
        if follow:
            yield from self.server.follow(job.id)
        else:
            yield self.server.logs(job.id)

    def stop(self, job: Launched, timeout: float) -> str:
        if said := over_before(self, job):
            return said
        waits = self.state(job)[0] == "waiting"
        self.server.stop(job.id)
        if waits:  # Ray keeps it in its queue until then
            return f"{job.name} waits in Ray's queue for what it reserves, and ends when its turn comes"
        await_end(self, job, timeout, POLL)
        return f"{job.name} has ended"

    @property
    def server(self) -> JobServer:
        """Connected on first use."""
        self._server = self._server or JobServer(self.address)
        return self._server

    def _request(self, job: Job) -> dict[str, Any]:
        """The arguments of Ray's `submit_job`, without the user's code."""
        config = self.config
        variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(SAVING)}
        redis = job.config.replay.kind == "redis" or job.config.offline.startswith(URLS)
        if redis and (file := os.environ.get(PASSWORD_FILE)):
            variables[PASSWORD_FILE] = file
        request: dict[str, Any] = {
            "submission_id": f"{job.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}",
            "entrypoint": self._command(job),
            "metadata": {"name": job.name, "task": job.config.task, "logdir": job.config.logdir},
            "runtime_env": {"env_vars": variables},
        }
        reserved: dict[str, Any] = {
            "num_cpus": config.num_cpus, "num_gpus": config.num_gpus,
            "resources": {name: float(amount) for name, amount in pairs(config.resources, "", "").items()},
            "label_selector": pairs(config.labels, "", ""),
        }  # fmt: skip
        return request | {f"entrypoint_{name}": value for name, value in reserved.items() if value}

    def _command(self, job: Job) -> str:
        """A line for the node's shell. The address of the cluster is in its RAY_ADDRESS."""
        python = shlex.quote(self.config.python)
        if not self.config.python:
            python = f'"$(command -v {shlex.quote(sys.executable)} || echo python3)"'
        folder = f"cd {FOLDER} && " if named_module(job.config, hooks=True) else ""
        return f"{folder}exec {python} -P -m deploy.cli {shlex.join(job.command('--cluster.wait', 'True')[1:])}"


def _judge(found: JobDetails) -> tuple[State, str]:
    state = _STATES[found.status]
    said = (found.message or "").strip().partition(", last available logs")[0].splitlines()
    return state, said[0] if state == "failed" and said else ""
