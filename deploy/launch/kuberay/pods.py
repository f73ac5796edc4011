"""The pods of a Ray cluster on Kubernetes: what they run as, see and are checked by. Torch-free."""

from collections.abc import Mapping, Sequence
from typing import Any

from deploy.launch.kuberay.config import KubeRayConfig
from deploy.launch.kuberay.metrics import NAME, RUN, annotations, serving
from replay.redis_url import PASSWORD_VARIABLE

RUNS = "/runs"
USER = 1000
"""That of deploy/Dockerfile; /runs is handed to its group."""
TOKEN, PASSWORD = "auth_token", "redis_password"
"""Keys of the Secret; KubeRay looks for the first."""
GRACE = 120  # seconds to save when a pod is taken away
DASHBOARD, AGENT = 8265, 52365
CLUSTER_LABEL, NODE = "nexus-cluster", "role"
Object = dict[str, Any]


def labels(cluster: str) -> dict[str, str]:
    """Of everything that belongs to a cluster; its pods talk with each other alone."""
    return {CLUSTER_LABEL: cluster, "app.kubernetes.io/part-of": "nexus"}


def confined(user: int = USER) -> tuple[Object, Object]:
    """The security contexts of a pod and of a container: no root, no privileges, no way to get any."""
    pod = {
        "runAsNonRoot": True, "runAsUser": user, "runAsGroup": user, "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    return pod, {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def resources(cpus: float, memory_gb: float, gpus: int = 0) -> Object:
    """Requests that are the limits too: the pods are the last to be evicted, and Ray counts what they really have."""
    each = {"cpu": f"{cpus:g}", "memory": f"{memory_gb:g}Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    return {"requests": dict(each), "limits": each}


def from_secret(variable: str, secret: str, key: str) -> Object:
    """A variable of a container that Kubernetes takes from the Secret."""
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def head_pod(config: KubeRayConfig, cluster: str, claim: str, logdir: str) -> Object:
    """The pod of GCS, dashboard and autoscaler, and of the supervisor; `logdir`: of the run that it is for, if one."""
    ports = [("gcs", 6379), ("dashboard", DASHBOARD), ("client", 10001)]
    ports += [(NAME, RUN)] if serving(config) else []
    # The job must fail, to be started again: it is saved here, not stopped.
    before = ["nexus", "checkpoint", logdir, "--timeout", str(GRACE - 10)] if logdir else []
    container = {
        "name": "ray-head",
        "ports": [{"name": name, "containerPort": port} for name, port in ports],
        "resources": resources(config.head_cpus, config.head_gb),
        **_probes("/api/gcs_healthz", DASHBOARD),
    }
    return _pod(config, cluster, claim, container, before, annotations(config, head=True))


def worker_pod(config: KubeRayConfig, cluster: str, claim: str, asked: Object, before: Sequence[str] = ()) -> Object:
    """A pod of one Ray node that works; `asked`: its resources, `claim`: of /runs if it needs that, `before`: what is
    run before it is taken away."""
    container = {
        "name": "ray-worker", "resources": asked, **_probes("/api/local_raylet_healthz", AGENT),
    }  # fmt: skip
    pod = _pod(config, cluster, claim, container, before, annotations(config, head=False))
    pod["spec"]["automountServiceAccountToken"] = False
    if "nvidia.com/gpu" in asked["limits"]:
        pod["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return pod


def submitter_pod(config: KubeRayConfig, cluster: str) -> Object:
    """The pod that submits a job to a standing cluster and prints its log."""
    context, confines = confined()
    container = {
        "name": "ray-job-submitter",
        "image": config.image,
        "resources": resources(0.5, 1),
        "securityContext": confines,
        "env": [{"name": "RAY_AUTH_MODE", "value": "token"}, from_secret("RAY_AUTH_TOKEN", config.secret, TOKEN)],
    }
    spec = {"restartPolicy": "Never", "securityContext": context, "automountServiceAccountToken": False,
            "containers": [container]}  # fmt: skip
    return {"metadata": {"labels": labels(cluster)}, "spec": spec}


def _pod(
    config: KubeRayConfig, cluster: str, claim: str, container: Object, before: Sequence[str], notes: Mapping[str, str]
) -> Object:
    context, confines = confined()
    whole = {
        **container,
        "image": config.image,
        "securityContext": confines,
        "env": [from_secret(PASSWORD_VARIABLE, config.secret, PASSWORD)],
    }
    spec: Object = {"securityContext": context, "terminationGracePeriodSeconds": GRACE, "containers": [whole]}
    if claim:
        whole["volumeMounts"] = [{"name": "runs", "mountPath": RUNS}]
        spec["volumes"] = [{"name": "runs", "persistentVolumeClaim": {"claimName": claim}}]
    if before:
        whole["lifecycle"] = {"preStop": {"exec": {"command": list(before)}}}
    metadata: Object = {"labels": labels(cluster)} | ({"annotations": dict(notes)} if notes else {})
    return {"metadata": metadata, "spec": spec}


def _probes(path: str, port: int) -> Mapping[str, Object]:
    """Ray's own answers about its health, which need no token. In place of KubeRay's, which need wget."""
    asked = {"httpGet": {"path": path, "port": port}, "timeoutSeconds": 5}
    return {
        "startupProbe": {**asked, "periodSeconds": 5, "failureThreshold": 60},
        "readinessProbe": {**asked, "periodSeconds": 10, "failureThreshold": 3},
        "livenessProbe": {**asked, "periodSeconds": 10, "failureThreshold": 12},
    }
