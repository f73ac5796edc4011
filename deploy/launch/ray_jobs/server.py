"""Ray's job server, asked with the cluster's token; every wait has a time-out. Torch-free."""

import asyncio
import logging
import queue
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from deploy.distributed.ray_cluster import authenticate
from deploy.run_failed import RunFailedError

logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.ERROR)  # else it tells of every closed connection
ANSWERING = 30.0  # seconds
UPLOADING = 300.0  # seconds, for a package of code
TAKING = 120.0  # seconds, for a job
STARTING, PAUSE = 60.0, 2.0  # seconds for a head to take jobs, and between attempts
_NO_AGENT = "No available agent"


class JobServer:
    """The job server at `http://HOST:PORT`. Every method raises RunFailedError if it does not answer or refuses."""

    def __init__(self, address: str):
        self.address = address
        with self._failures():
            self.protected = self._asks_for_token()
            authenticate(self.protected)
            self._client: Any = _Client(address)

    def submit(self, **request: Any) -> str:
        """See Ray's `JobSubmissionClient.submit_job`. A head that has just started takes no jobs for a while."""
        begun = time.monotonic()
        while True:
            try:
                with self._failures():
                    return str(self._client.submit_job(**request))
            except RunFailedError as error:
                if self._has(request["submission_id"]):  # its answer was late, or lost
                    return str(request["submission_id"])
                if _NO_AGENT not in str(error):
                    raise
                waited = time.monotonic() - begun
            if waited > STARTING:
                raise RunFailedError(
                    f"The head of the Ray cluster at {self.address} has no agent that takes jobs. If several clusters "
                    "share a machine, the agent's port may be taken: start their nodes with "
                    "--dashboard-agent-listen-port=0. Otherwise see dashboard_agent.log on the head."
                )
            if waited < PAUSE:
                print("The head of the cluster does not take jobs yet; waiting for it.", file=sys.stderr, flush=True)
            time.sleep(PAUSE)

    def jobs(self) -> list[JobDetails]:
        """All that were submitted to the cluster, oldest first."""
        with self._failures():
            found = [one for one in self._client.list_jobs() if one.submission_id]
        return sorted(found, key=lambda one: one.start_time or 0)

    def job(self, submission: str) -> JobDetails | None:
        """One of them; None if the cluster does not know it."""
        return next((one for one in self.jobs() if one.submission_id == submission), None)

    def _has(self, submission: str) -> bool:
        try:
            return self.job(submission) is not None
        except RunFailedError:
            return False

    def stop(self, submission: str) -> None:
        """Send a job SIGTERM, or take it out of the queue."""
        with self._failures():
            self._client.stop_job(submission)

    def logs(self, submission: str) -> str:
        """All that a job has printed."""
        with self._failures():
            return str(self._client.get_job_logs(submission))

    def follow(self, submission: str) -> Iterator[str]:
        """What a job has printed and prints, until it ends."""
        pieces: queue.Queue[str | Exception | None] = queue.Queue()

        async def tail() -> None:
            async for piece in self._client.tail_job_logs(submission):
                pieces.put(piece)

        def work() -> None:  # a signal would leave Ray's generator half-way
            try:
                asyncio.run(tail())
                pieces.put(None)
            except Exception as error:
                pieces.put(error)

        Thread(target=work, name="log", daemon=True).start()
        while True:
            try:
                piece = pieces.get(timeout=ANSWERING)
            except queue.Empty:
                self.job(submission)  # is the server still there?
                continue
            if piece is None:
                return
            if isinstance(piece, Exception):
                with self._failures():
                    raise piece
            yield piece

    def _asks_for_token(self) -> bool:
        answer = requests.get(f"{self.address}/api/version", timeout=ANSWERING, allow_redirects=False)
        if answer.status_code not in (200, 401):
            raise RunFailedError(
                f"{self.address} is not a job server of Ray (status {answer.status_code}). The job server has the "
                'port of the dashboard (8265 unless given); its node needs `pip install "ray[default]"`.'
            )
        return answer.status_code == 401

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turns what can go wrong between here and the server into RunFailedError."""
        try:
            yield
        except AuthenticationError as error:
            raise RunFailedError(
                f"The Ray cluster at {self.address} refuses the token of this user: put the one that its nodes were "
                "started with in ~/.ray/auth_token (mode 0600), or set RAY_AUTH_TOKEN_PATH to the file that holds it."
            ) from error
        except (OSError, TimeoutError) as error:  # requests' errors are OSErrors
            raise RunFailedError(
                f"No job server of Ray answers at {self.address} ({type(error).__name__}). Check the address, and that "
                "the cluster's head runs."
            ) from error
        except RuntimeError as error:
            said = [line for line in str(error).splitlines() if any(map(str.isalpha, line))]
            if "ray[default]" in str(error):
                said = ['This needs Ray\'s client of its job server: pip install "nexus-worlds[launch]"']
            raise RunFailedError(f"{self.address}: {said[-1] if said else type(error).__name__}") from error


class _Client(JobSubmissionClient):
    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        """As Ray's, which would wait for ever."""
        timeout = {"PUT": UPLOADING, "POST": TAKING}.get(method, ANSWERING)
        return super()._do_request(method, endpoint, timeout=timeout, **options)
