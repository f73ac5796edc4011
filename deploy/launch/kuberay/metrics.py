"""What a Prometheus in Kubernetes is given to read the metrics of runs and of Ray. Torch-free."""

from typing import Any

from deploy.launch.kuberay.config import KubeRayConfig

RUN, RAY = 9100, 8080
"""Ports of a run's own metrics, at the head, and of Ray's on every node, which KubeRay calls `metrics`."""
NAME = "run-metrics"
PROMETHEUS = {"app.kubernetes.io/name": "prometheus"}
"""Labels of its pods, as its Helm charts and its operator set them."""
Object = dict[str, Any]


def serving(config: KubeRayConfig) -> list[str]:
    """Options with which a run shows its metrics to other pods; on a standing cluster several would want one port."""
    if config.metrics == "none" or config.cluster:
        return []
    return ["--metrics-port", str(RUN), "--metrics-host", "0.0.0.0"]


def annotations(config: KubeRayConfig, head: bool) -> dict[str, str]:
    """Of a pod, for a Prometheus that looks for them; they name one port."""
    if config.metrics != "annotations":
        return {}
    port = RUN if head and not config.cluster else RAY
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": "/metrics"}


def reading(config: KubeRayConfig) -> list[Object]:
    """The rule of a network policy by which Prometheus, in any namespace, reaches these two ports."""
    if config.metrics == "none":
        return []
    ports = [{"protocol": "TCP", "port": port} for port in (RUN, RAY)]
    return [{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": PROMETHEUS}}], "ports": ports}]


def pod_monitor(config: KubeRayConfig, cluster: str, own: dict[str, str]) -> list[Object]:
    """For Prometheus's operator, which takes those with the label of its Helm release; `own`: labels of the pods."""
    if config.metrics != "pod-monitor":
        return []
    return [
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PodMonitor",
            "metadata": {"name": cluster, "labels": {**own, "release": "prometheus"}},
            "spec": {
                "selector": {"matchLabels": dict(own)},
                "podTargetLabels": ["ray.io/cluster", "ray.io/group"],
                "podMetricsEndpoints": [{"port": "metrics"}, {"port": NAME}],
            },
        }
    ]
