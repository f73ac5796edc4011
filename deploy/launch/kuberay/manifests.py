"""What Kubernetes is given for the jobs of one command. Torch-free."""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import PurePosixPath

from deploy.launch.job import Job
from deploy.launch.kuberay.config import LABEL, LONGEST, KubeRayConfig
from deploy.launch.kuberay.metrics import pod_monitor, reading, serving
from deploy.launch.kuberay.pods import (
    DASHBOARD,
    NODE,
    RUNS,
    Object,
    confined,
    head_pod,
    labels,
    resources,
    submitter_pod,
    worker_pod,
)
from deploy.launch.kuberay.redis import servers, urls

CLAIM = "nexus-runs"
QUEUE = "kueue.x-k8s.io/queue-name"
OPERATOR = ["kuberay-operator", "kuberay"]
"""Names of KubeRay's operator, as its Helm chart and its manifests label it."""


def manifests(config: KubeRayConfig, jobs: Sequence[Job]) -> dict[str, list[Object]]:
    """The objects by the names of their jobs, the RayJob last, and under "" those that all of them use, in the order to
    apply them.

    ValueError: a job cannot have this name or run directory, or asks for what its pods do not have.
    """
    claim = config.claim or CLAIM
    shared = [] if config.claim else [_runs(config)]
    if config.cluster:
        shared += [*_isolation(config, config.cluster), _ray_cluster(config, config.cluster, claim, jobs)]
    made: dict[str, list[Object]] = {"": shared} if shared else {}
    for job in jobs:
        name, cluster = object_name(job), config.cluster or object_name(job)
        if name in made:
            raise ValueError(f"Two of the jobs would be named {name}; launch them one by one, each with a --logdir.")
        _require_runs(job)
        made[name] = servers(config, name, cluster) if _has_servers(config, job) else []
        if not config.cluster:
            made[name] += _isolation(config, cluster)
        made[name].append(_ray_job(config, job, claim))
    return made


def object_name(job: Job) -> str:
    """The job's name as RayJobs, which begin with a letter, and what belongs to them can have it."""
    name = job.name if re.fullmatch(LABEL, job.name) else f"run-{job.name}"
    return name[:LONGEST].rstrip("-")


def _require_runs(job: Job) -> None:
    logdir = PurePosixPath(job.config.logdir)
    if not (logdir.is_relative_to(RUNS) and logdir != PurePosixPath(RUNS)):
        raise ValueError(f"--logdir {logdir} is not below {RUNS}, where the pods see the volume that outlives them.")


def _has_servers(config: KubeRayConfig, job: Job) -> bool:
    return config.redis_shards > 0 and job.config.replay.store == "memory"


def _entrypoint(config: KubeRayConfig, job: Job) -> str:
    cluster = job.config.cluster
    more = ["--cluster.address", "auto", "--cluster.wait", "True"]
    if not job.config.metrics_port:
        more += serving(config)
    if not cluster.learner_nodes:
        more += ["--cluster.learner-nodes", f"{NODE}=learner"]
    if not cluster.actor_nodes:
        more += ["--cluster.actor-nodes", f"{NODE}=actors"]
    if _has_servers(config, job):
        more += ["--replay", urls(object_name(job), config.redis_shards)]
    return shlex.join(job.command(*more))


def _ray_job(config: KubeRayConfig, job: Job, claim: str) -> Object:
    name = object_name(job)
    spec: Object = {"entrypoint": _entrypoint(config, job), "backoffLimit": config.retries}
    marks = labels(config.cluster or name)
    if config.cluster:
        spec |= {
            "clusterSelector": {"ray.io/cluster": config.cluster},
            "submitterPodTemplate": submitter_pod(config, config.cluster),
        }
    else:
        # The submitter is beside the head: no other pod has to reach it. Not deletionStrategy, which excludes these
        # two and with them suspension, and needs a feature gate.
        spec |= {
            "submissionMode": "SidecarMode",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": config.keep_seconds,
            "rayClusterSpec": _cluster_spec(config, name, claim, [job], job.config.logdir),
        }
    if config.queue:
        spec["suspend"] = True  # until Kueue admits it
        marks[QUEUE] = config.queue
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": name, "labels": marks}, "spec": spec}


def _ray_cluster(config: KubeRayConfig, name: str, claim: str, jobs: Sequence[Job]) -> Object:
    meta = {"name": name, "labels": labels(name)}
    spec = _cluster_spec(config, name, claim, jobs, "")
    return {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": meta, "spec": spec}


def _cluster_spec(config: KubeRayConfig, name: str, claim: str, jobs: Sequence[Job], logdir: str) -> Object:
    """`logdir`: of the only run; empty if others may come."""
    pods = sum(_actor_pods(config, job) for job in jobs)
    most = max(config.actor_pods, pods)
    learners = max(config.learner_pods, len(jobs))
    save = ["sh", "-c", f"nexus checkpoint {shlex.quote(logdir)}; sleep 30"] if logdir else []  # the head's may go on
    spec: Object = {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token", "secretName": config.secret},
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # with the token; KubeRay asks there
            "template": head_pod(config, name, claim, logdir),
        },
        "workerGroupSpecs": [
            _group("learner", learners, learners, learners, worker_pod(
                config, name, claim, resources(config.learner_cpus, config.learner_gb, config.learner_gpus), save,
            )),
            _group("actors", 1, pods, most, worker_pod(
                config, name, "", resources(config.actor_cpus, config.actor_gb),
            ), idle=config.idle_seconds),
        ],
    }  # fmt: skip
    if not config.queue:  # Kueue counts pods, which must not change then
        spec |= {
            "enableInTreeAutoscaling": True,
            "autoscalerOptions": {
                "version": "v2",
                "idleTimeoutSeconds": config.idle_seconds,
                "resources": resources(0.5, 1),
                "securityContext": confined()[1],
            },
        }
    return spec


def _group(role: str, least: int, first: int, most: int, template: Object, idle: int = 0) -> Object:
    """Pods of one kind; `labels` are those of their Ray nodes."""
    group = {
        "groupName": role, "labels": {NODE: role}, "minReplicas": min(least, first), "replicas": first,
        "maxReplicas": most, "rayStartParams": {}, "template": template,
    }  # fmt: skip
    return group | ({"idleTimeoutSeconds": idle} if idle else {})


def _actor_pods(config: KubeRayConfig, job: Job) -> int:
    """Pods that the actors of a job need at its start."""
    if job.config.offline:
        return 1
    cpus = job.config.cluster.actor_cpus
    each = int(config.actor_cpus / cpus + 1e-9)
    if not each:
        raise ValueError(
            f"cluster.actor_cpus={cpus:g} is more than the kuberay.actor_cpus={config.actor_cpus} of a pod."
        )
    needed = math.ceil(job.config.actor.actors / each)
    if needed > config.actor_pods:
        raise ValueError(
            f"actor.actors={job.config.actor.actors} need {needed} pods of kuberay.actor_cpus={config.actor_cpus}, but "
            f"kuberay.actor_pods={config.actor_pods} are the most; raise one of the two."
        )
    return needed


def _isolation(config: KubeRayConfig, cluster: str) -> list[Object]:
    """Pods of the cluster reach each other and names, KubeRay's operator reaches the dashboard, and Prometheus metrics
    if it is to. The head also reaches HTTPS: its autoscaler asks the Kubernetes API, and its supervisor may log to a
    service."""
    own = labels(cluster)
    among = {"podSelector": {"matchLabels": own}}
    operator = {
        "namespaceSelector": {},
        "podSelector": {
            "matchExpressions": [{"key": "app.kubernetes.io/name", "operator": "In", "values": OPERATOR}],
        },
    }
    inward = [{"from": [among]}, {"from": [operator], "ports": _ports("TCP", DASHBOARD)}, *reading(config)]
    outward: list[Object] = [{"to": [among]}, {"ports": _ports("UDP", 53) + _ports("TCP", 53)}]
    head = {**own, "ray.io/node-type": "head"}
    return [
        _policy(f"{cluster}-isolation", own, own, {"ingress": inward, "egress": outward}),
        _policy(f"{cluster}-head", own, head, {"egress": [{"ports": _ports("TCP", 443, 6443)}]}),
        *pod_monitor(config, cluster, own),
    ]


def _policy(name: str, own: Mapping[str, str], pods: Mapping[str, str], rules: Mapping[str, list[Object]]) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "labels": dict(own)},
        "spec": {
            "podSelector": {"matchLabels": dict(pods)},
            "policyTypes": [direction.capitalize() for direction in rules],
            **rules,
        },
    }


def _ports(protocol: str, *ports: int) -> list[Object]:
    return [{"protocol": protocol, "port": port} for port in ports]


def _runs(config: KubeRayConfig) -> Object:
    spec: Object = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": f"{config.claim_gb}Gi"}},
    }
    if config.storage_class:
        spec["storageClassName"] = config.storage_class
    meta = {"name": CLAIM, "labels": {"app.kubernetes.io/part-of": "nexus"}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
