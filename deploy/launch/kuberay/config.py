"""What the pods of a job are given. Torch-free."""

import re
from dataclasses import dataclass
from typing import Literal

LABEL = r"[a-z]([a-z0-9-]*[a-z0-9])?"
LONGEST = 46  # characters of a name: a RayJob may have 47, a StatefulSet 52 with its -redis


@dataclass(frozen=True, kw_only=True)
class KubeRayConfig:
    """Kubernetes with KubeRay 1.7 or newer."""

    image: str = "nexus-worlds:latest"
    """Image of all pods but Redis, built from deploy/Dockerfile; with your module in it if the task names one."""
    context: str = ""
    """Of kubectl; empty for the current one."""
    namespace: str = ""
    """Empty for that of the context."""
    secret: str = "nexus"
    """Secret with the keys auth_token (of Ray) and redis_password; `nexus launch` says how to make it."""
    queue: str = ""
    """LocalQueue of Kueue, which starts the job when there is room for all of it. The number of pods is fixed then."""
    cluster: str = ""
    """Name of a standing RayCluster for all jobs of the command. One that exists is left as it is, and jobs wait for
    room there; otherwise it is made with room for these. Empty: a cluster for each job, which ends with it."""
    claim: str = ""
    """PersistentVolumeClaim for /runs, which every node must be able to mount; empty: one named nexus-runs is made."""
    claim_gb: int = 100
    """Size of the claim that is made."""
    storage_class: str = ""
    """Of the claims that are made; empty for the default. The one of /runs must offer ReadWriteMany."""
    head_cpus: int = 2
    """Of the pod with the supervisor, which does no other work."""
    head_gb: int = 8
    learner_cpus: int = 4
    learner_gb: int = 16
    learner_gpus: int = 1
    """GPUs of NVIDIA; 0 to train on the CPU."""
    learner_pods: int = 0
    """Pods for learners of a standing cluster that is made, if it is to have more than these jobs need."""
    actor_cpus: int = 4
    """CPUs of a pod for actors; how many it holds follows from --cluster.actor-cpus."""
    actor_gb: int = 8
    actor_pods: int = 32
    """Most pods for actors. The run begins with as many as --actor.actors needs; the autoscaler adds others when
    `nexus scale` asks for more actors."""
    idle_seconds: int = 300
    """After which the autoscaler removes a pod without actors."""
    redis_shards: int = 2
    """Redis servers of the job for its replay, unless --replay names others; 0 keeps replay where --replay says."""
    redis_image: str = "redis:7.4"
    redis_gb: int = 8
    """Memory for the steps on each of them; its pod has half as much again, its volume three times as much."""
    metrics: Literal["none", "annotations", "pod-monitor"] = "none"
    """How a Prometheus in the cluster finds the metrics of the run and of Ray: by annotations of the pods, or by a
    PodMonitor for its operator. Pods with the label app.kubernetes.io/name=prometheus may then read them."""
    retries: int = 3
    """Times that the job is started again, on a new cluster, when its head is lost or it fails."""
    keep_seconds: int = 3600
    """That the cluster stays after its job has ended."""

    def __post_init__(self) -> None:
        for name in ("secret", "cluster", "claim"):
            value = getattr(self, name)
            if (value or name == "secret") and not re.fullmatch(LABEL, value):
                raise ValueError(f"kuberay.{name}={value!r} is no name for Kubernetes: letters a to z, digits and -.")
        if len(self.cluster) > LONGEST:
            raise ValueError(f"kuberay.cluster={self.cluster!r} has more than {LONGEST} characters.")
        positive = (
            "claim_gb", "head_cpus", "head_gb", "learner_cpus", "learner_gb", "actor_cpus", "actor_gb", "actor_pods",
            "idle_seconds", "redis_gb",
        )  # fmt: skip
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"kuberay.{name}={getattr(self, name)} must be at least 1.")
        for name in ("learner_gpus", "learner_pods", "redis_shards", "retries", "keep_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"kuberay.{name}={getattr(self, name)} must not be negative.")
        if self.queue and self.cluster:
            raise ValueError(
                "kuberay.queue and kuberay.cluster exclude each other: Kueue starts jobs with clusters of their own."
            )
