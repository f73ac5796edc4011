"""Jobs of Kubernetes. Torch-free."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Self

from deploy.launch.job import Job
from deploy.launch.kuberay.config import KubeRayConfig
from deploy.launch.kuberay.documents import documents
from deploy.launch.kuberay.kubectl import Kubectl
from deploy.launch.kuberay.manifests import manifests, object_name
from deploy.launch.kuberay.pods import PASSWORD, RUNS, TOKEN
from deploy.launch.lifecycle import require_over
from deploy.launch.target import Launched, State
from deploy.run_failed import RunFailedError

STATES: Mapping[str, State] = {
    "Complete": "ended", "Failed": "failed", "ValidationFailed": "failed", "Suspended": "waiting", "Running": "running",
}  # fmt: skip
"""KubeRay's states of a RayJob; in all others it is about to start."""
DELETING = 180.0  # seconds
STARTING = 600.0  # seconds for Redis: its image and its volume
POLL = 5.0  # seconds between looks at what is about to start


class KubeRay:
    """A RayJob each, in one namespace."""

    runs: PurePosixPath | None = PurePosixPath(RUNS)
    final = True

    def __init__(self, config: KubeRayConfig):
        self.config = config

    @classmethod
    def of(cls, place: str) -> Self:
        """That of a job, by its `place`."""
        context, _, namespace = place.rpartition("/")
        return cls(KubeRayConfig(context=context, namespace=namespace))

    def files(self, jobs: Sequence[Job]) -> dict[str, str]:
        """See `Target`; `kubectl apply` takes them in this order."""
        made = manifests(self.config, jobs)
        return {f"{name or 'cluster'}.yaml": documents(them) for name, them in made.items()}

    def launch(self, jobs: Sequence[Job]) -> Iterator[Launched]:
        made = manifests(self.config, jobs)
        self._require_secret()
        kubectl = self.kubectl
        for job in jobs:
            require_over(job.name, _state(kubectl.get("rayjob", object_name(job)))[0])
        standing = self.config.cluster and kubectl.get("raycluster", self.config.cluster)
        if shared := [one for one in made.get("", ()) if not (standing and one["kind"] == "RayCluster")]:
            kubectl.apply(shared)  # a cluster made smaller would lose the pods of jobs that run there
        for job in jobs:
            name = object_name(job)
            yield Launched(
                name=job.name, target="kuberay", id=name, place=f"{self.config.context}/{self.config.namespace}",
                task=job.config.task, logdir=job.config.logdir, time=time.time(),
            )  # fmt: skip
            kubectl.delete("rayjob", name, DELETING)  # one that has ended is not started again by an apply
            *before, ray_job = made[name]
            if before:
                kubectl.apply(before)
            _await_servers(kubectl, name)
            kubectl.apply([ray_job])

    def state(self, job: Launched) -> tuple[State, str]:
        try:
            return _state(self.kubectl.get("rayjob", job.id))
        except RunFailedError as error:
            return "unreachable", str(error)

    def logs(self, job: Launched, follow: bool) -> Iterator[str]:
        kubectl = self.kubectl
        document = kubectl.get("rayjob", job.id)
        while follow and _state(document)[0] == "waiting":
            time.sleep(POLL)
            document = kubectl.get("rayjob", job.id)
        if not (head := _head(document)):
            raise RunFailedError(f"The job {job.name} has no cluster now; what it logged is in {job.logdir}.")
        assert document
        standing = "clusterSelector" in document["spec"]
        yield from kubectl.logs(f"job/{job.id}" if standing else head, "ray-job-submitter", follow)

    def stop(self, job: Launched, timeout: float) -> str:
        kubectl = self.kubectl
        document = kubectl.get("rayjob", job.id)
        state, _ = _state(document)
        said = "it was waiting" if state == "waiting" else "it had ended"
        if state == "running" and (head := _head(document)):
            wait = f"{max(1, int(timeout))}"
            said = kubectl.execute(head, "ray-head", ["nexus", "stop", job.logdir, "--timeout", wait], timeout + 30)
        kubectl.delete("rayjob", job.id, DELETING)
        if kubectl.get("statefulset", f"{job.id}-redis"):
            kubectl.scale("statefulset", f"{job.id}-redis", 0)
        return f"{said.strip()}; its pods are removed, its volumes kept"

    @property
    def kubectl(self) -> Kubectl:
        """ValueError: it is not installed."""
        return Kubectl(self.config.context, self.config.namespace)

    def _require_secret(self) -> None:
        secret = self.config.secret
        found = (self.kubectl.get("secret", secret) or {}).get("data", {})
        if missing := [key for key in (TOKEN, PASSWORD) if key not in found]:
            raise ValueError(f"The Secret {secret} has no {' and no '.join(missing)}. {how_to_make(secret)}")


def how_to_make(secret: str) -> str:
    """How the Secret is made without its values on a command line or in a shell's history."""
    keys = " ".join(f"--from-file={key}" for key in (TOKEN, PASSWORD))
    return (
        "Make it in an empty folder:\n"
        f"  umask 077; for key in {TOKEN} {PASSWORD}; do openssl rand -hex 32 | tr -d '\\n' > $key; done\n"
        f"  kubectl create secret generic {secret} {keys}"
    )


def _await_servers(kubectl: Kubectl, name: str) -> None:
    """Wait for the Redis servers of a job, if it has any: a run gives up soon what it has never reached."""
    deadline = time.monotonic() + STARTING
    while servers := kubectl.get("statefulset", f"{name}-redis"):
        if servers.get("status", {}).get("readyReplicas", 0) >= servers["spec"]["replicas"]:
            return
        if time.monotonic() > deadline:
            raise RunFailedError(
                f"The Redis servers are not ready after {STARTING:g} s: kubectl describe statefulset {name}-redis says "
                "why. The same command goes on from here."
            )
        time.sleep(POLL)


def _state(document: Mapping[str, Any] | None) -> tuple[State, str]:
    if document is None:
        return "gone", ""
    status = document.get("status", {})
    state = STATES.get(status.get("jobDeploymentStatus", ""), "waiting")
    return state, status.get("message", "") or status.get("reason", "")


def _head(document: Mapping[str, Any] | None) -> str:
    """The head's pod of a RayJob's cluster; empty if it has none."""
    cluster = (document or {}).get("status", {}).get("rayClusterStatus", {})
    return str(cluster.get("head", {}).get("podName", ""))
