"""The Redis servers of a job on Kubernetes, which outlive its Ray cluster. Torch-free."""

from pathlib import Path

from deploy.launch.kuberay.config import KubeRayConfig
from deploy.launch.kuberay.pods import PASSWORD, Object, confined, from_secret, labels, resources

SETTINGS = Path(__file__).parents[2] / "redis"
FOLDER = "/etc/nexus/redis"
USER = 999  # of Redis's image


def urls(name: str, shards: int) -> str:
    """Of the shards of the job `name`, as nexus train takes them."""
    return ",".join(f"redis://{name}-redis-{shard}.{name}-redis" for shard in range(shards))


def servers(config: KubeRayConfig, name: str, cluster: str) -> list[Object]:
    """The objects of the job `name`: settings, names for the network, and servers with a volume each."""
    which = {"nexus-job": name, "app.kubernetes.io/component": "replay"}
    own = {**labels(cluster), **which}
    meta = {"name": f"{name}-redis", "labels": own}
    settings = {file: (SETTINGS / file).read_text() for file in ("shard.conf", "start.sh")}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": settings},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"clusterIP": "None", "selector": which, "ports": [{"name": "redis", "port": 6379}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": meta,
            "spec": {
                "serviceName": f"{name}-redis",
                "replicas": config.redis_shards,
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": which},
                "template": {"metadata": {"labels": own}, "spec": _pod(config, name)},
                "volumeClaimTemplates": [_claim(config)],
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            },
        },
    ]


def _pod(config: KubeRayConfig, name: str) -> Object:
    context, confines = confined(USER)
    ping = 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli ping | grep -q PONG'
    container = {
        "name": "redis",
        "image": config.redis_image,
        "command": ["sh", f"{FOLDER}/start.sh"],
        "workingDir": "/data",
        "env": [
            from_secret("REDIS_PASSWORD", config.secret, PASSWORD),
            {"name": "REDIS_MAXMEMORY", "value": f"{config.redis_gb}gb"},
            {"name": "REDIS_BIND", "value": "* -::*"},  # of the pod, which its network policy keeps
        ],
        "ports": [{"name": "redis", "containerPort": 6379}],
        "resources": resources(1, 1.5 * config.redis_gb),
        "securityContext": {**confines, "readOnlyRootFilesystem": True},
        # Not ready while it reads its file; alive all the same.
        "readinessProbe": {"exec": {"command": ["sh", "-c", ping]}, "periodSeconds": 5, "timeoutSeconds": 5},
        "livenessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 10, "failureThreshold": 6},
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "settings", "mountPath": FOLDER, "readOnly": True},
        ],
    }
    return {
        "securityContext": context,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 60,
        "containers": [container],
        "volumes": [{"name": "settings", "configMap": {"name": f"{name}-redis"}}],
    }


def _claim(config: KubeRayConfig) -> Object:
    spec: Object = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{3 * config.redis_gb}Gi"}},
    }
    if config.storage_class:
        spec["storageClassName"] = config.storage_class
    return {"metadata": {"name": "data"}, "spec": spec}
