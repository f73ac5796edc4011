"""The manifests of `--target kuberay`, against the definitions of KubeRay and Kubernetes."""

import math
import shlex
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.commands.train import parse_train
from deploy.launch.job import Job
from deploy.launch.kuberay.config import KubeRayConfig
from deploy.launch.kuberay.manifests import manifests, object_name
from deploy.launch.kuberay.target import KubeRay, how_to_make
from deploy.launch.sweep import jobs
from tests.deploy.launch.kuberay.custom_resources import faults, rules

KUBERNETES = "1.31"
OWN, QUEUED, STANDING = KubeRayConfig(), KubeRayConfig(queue="lab"), KubeRayConfig(cluster="lab")
VARIANTS = {
    "own": OWN, "queued": QUEUED, "standing": STANDING, "bare": KubeRayConfig(redis_shards=0, learner_gpus=0),
    "given": KubeRayConfig(claim="mine", storage_class="fast"),
    "annotated": KubeRayConfig(metrics="annotations"), "monitored": KubeRayConfig(metrics="pod-monitor"),
}  # fmt: skip
Object = dict[str, Any]


@cache
def made(*options: str, seeds: tuple[int, ...] = (0,)) -> list[Job]:
    return jobs(["gym:CartPole-v1"], seeds, [], ["--preset", "quick", *options], parse_train, PurePosixPath("/runs"))


def applied(config: KubeRayConfig, *options: str) -> list[Object]:
    """What kubectl would read, from the text; to be changed as one likes."""
    return deepcopy(_applied(config, *options))


@cache
def _applied(config: KubeRayConfig, *options: str) -> list[Object]:
    texts = KubeRay(config).files(made(*options, seeds=(0, 1))).values()
    return [one for text in texts for one in yaml.safe_load_all(text)]


def kinds(objects: list[Object]) -> list[str]:
    return [one["kind"] for one in objects]


def of_kind(objects: list[Object], kind: str) -> Object:
    return next(one for one in objects if one["kind"] == kind)


def cluster_specs(objects: list[Object]) -> Iterator[Object]:
    for one in objects:
        if one["kind"] == "RayCluster":
            yield one["spec"]
        elif one["kind"] == "RayJob" and "rayClusterSpec" in one["spec"]:
            yield one["spec"]["rayClusterSpec"]


def pod_templates(objects: list[Object]) -> Iterator[Object]:
    for spec in cluster_specs(objects):
        yield spec["headGroupSpec"]["template"]
        yield from (group["template"] for group in spec["workerGroupSpecs"])
    for one in objects:
        if one["kind"] == "StatefulSet":
            yield one["spec"]["template"]
        elif one["kind"] == "RayJob" and "submitterPodTemplate" in one["spec"]:
            yield one["spec"]["submitterPodTemplate"]


@pytest.mark.parametrize("name", VARIANTS)
def test_kuberays_definitions_take_them(name: str) -> None:
    found = [one for one in applied(VARIANTS[name]) if one["apiVersion"] == "ray.io/v1"]
    assert kinds(found).count("RayJob") == 2
    assert kinds(found).count("RayCluster") == (name == "standing")
    for one in found:
        assert faults(one["kind"], one) == []


def test_the_definitions_refuse_what_is_wrong() -> None:
    job = of_kind(applied(OWN), "RayJob")
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    job["spec"]["rayClusterSpec"]["autoscalerOptions"]["version"] = "v3"
    del job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["groupName"]
    said = " ".join(faults("RayJob", job))
    assert "imagee" in said and "'v3' is not one of" in said and "groupName" in said


@pytest.mark.parametrize("name", VARIANTS)
def test_kubernetes_takes_them(name: str) -> None:
    objects = applied(VARIANTS[name])
    pods = [{"apiVersion": "v1", "kind": "Pod", **one} for one in pod_templates(objects)]
    core = [one for one in objects if one["apiVersion"] not in ("ray.io/v1", "monitoring.coreos.com/v1")]
    assert {"NetworkPolicy"} <= set(kinds(core)) and len(pods) >= 4
    for one in [*core, *pods]:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(core[-1] | {"sepc": {}}, KUBERNETES, strict=True)


def test_the_rules_in_cel_are_those_that_are_checked_here() -> None:
    immutable = "self == oldSelf"
    manager = "self in ['ray.io/kuberay-operator', 'kueue.x-k8s.io/multikueue']"
    cluster = {("managedBy", immutable), ("managedBy", manager), ("gcsFaultToleranceOptions.backend", immutable)}
    deletion, condition = ".spec.deletionStrategy", ".spec.deletionStrategy.deletionRules[].condition"
    expected = {
        (".spec.managedBy", immutable),
        (".spec.managedBy", manager),
        (deletion, "!((has(self.onSuccess) || has(self.onFailure)) && has(self.deletionRules))"),
        (deletion, "((has(self.onSuccess) && has(self.onFailure)) || has(self.deletionRules))"),
        (condition, "!(has(self.jobStatus) && has(self.jobDeploymentStatus))"),
        (condition, "has(self.jobStatus) || has(self.jobDeploymentStatus)"),
        *((f".spec.rayClusterSpec.{name}", rule) for name, rule in cluster),
    }
    assert rules("RayJob") == expected
    assert rules("RayCluster") == {(f".spec.{name}", rule) for name, rule in cluster}
    for config in VARIANTS.values():  # they hold of what has none of these fields
        objects = applied(config)
        specs = [*cluster_specs(objects), *(one["spec"] for one in objects if one["kind"] == "RayJob")]
        assert not [
            spec for spec in specs if {"managedBy", "gcsFaultToleranceOptions", "deletionStrategy"} & spec.keys()
        ]


@pytest.mark.parametrize("name", VARIANTS)
def test_the_operator_takes_them(name: str) -> None:
    """What KubeRay and Kueue refuse when they read a RayJob, beyond its definition."""
    objects = applied(VARIANTS[name])
    for one in objects:
        assert len(one["metadata"]["name"]) <= (47 if one["kind"] == "RayJob" else 52)
        if one["kind"] != "RayJob":
            continue
        spec, standing = one["spec"], "clusterSelector" in one["spec"]
        assert standing != ("rayClusterSpec" in spec)
        if standing:
            assert (
                not {"suspend", "submissionMode", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"} & spec.keys()
            )
        else:
            assert spec["submissionMode"] == "SidecarMode" and "submitterPodTemplate" not in spec
            assert spec["shutdownAfterJobFinishes"] and spec["ttlSecondsAfterFinished"] >= 0
    for spec in cluster_specs(objects):
        assert spec["authOptions"] == {"mode": "token", "secretName": "nexus"}  # without enableK8sTokenAuth
        assert tuple(map(int, spec["rayVersion"].split("."))) >= (2, 52, 0)
        groups = spec["workerGroupSpecs"]
        assert len(groups) <= 7
        for group in groups:
            assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
            assert "labels" not in group["rayStartParams"]
        for template in (spec["headGroupSpec"]["template"], *(group["template"] for group in groups)):
            assert (
                template["spec"].get("restartPolicy", "Never") == "Never"
            )  # as the autoscaler and the sidecar need it
        if name == "queued":
            assert not spec.get("enableInTreeAutoscaling")
        else:
            assert spec["enableInTreeAutoscaling"] and spec["autoscalerOptions"]["version"] == "v2"
            assert [group.get("idleTimeoutSeconds") for group in groups] == [None, 300]


def test_a_queued_job_waits_for_kueue() -> None:
    job = of_kind(applied(QUEUED), "RayJob")
    assert job["spec"]["suspend"] is True and job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "lab"
    assert "suspend" not in of_kind(applied(OWN), "RayJob")["spec"]


def test_the_job_is_the_command_of_a_cluster_run() -> None:
    objects = applied(OWN, "--actor.actors", "9", "--actor.environments", "9")
    words = shlex.split(of_kind(objects, "RayJob")["spec"]["entrypoint"])
    assert words[:2] == ["nexus", "train"]
    config = parse_train(words[2:])
    assert (config.mode, config.cluster.address, config.logdir) == ("cluster", "auto", "/runs/gym-cartpole-v1-seed0")
    assert config.replay.store == (
        "redis://gym-cartpole-v1-seed0-redis-0.gym-cartpole-v1-seed0-redis,"
        "redis://gym-cartpole-v1-seed0-redis-1.gym-cartpole-v1-seed0-redis"
    )
    service, servers = of_kind(objects, "Service"), of_kind(objects, "StatefulSet")
    assert servers["spec"]["serviceName"] == service["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    learner, actors = of_kind(objects, "RayJob")["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    for group, nodes in ((learner, config.cluster.learner_nodes), (actors, config.cluster.actor_nodes)):
        key, _, value = nodes.partition("=")
        assert group["labels"] == {key: value}
    assert actors["replicas"] == math.ceil(9 / 4) and learner["replicas"] == 1


def test_a_head_that_is_taken_away_saves_the_run_and_lets_it_fail() -> None:
    """A run that was stopped would have ended well, and not be started again."""
    head = of_kind(applied(OWN), "RayJob")["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    (container,) = head["spec"]["containers"]
    assert container["lifecycle"]["preStop"]["exec"]["command"][:3] == [
        "nexus", "checkpoint", "/runs/gym-cartpole-v1-seed0",
    ]  # fmt: skip


def test_what_the_user_gives_is_kept() -> None:
    given = ["--replay", "disk", "--cluster.actor-nodes", "pool=cheap"]
    objects = applied(OWN, *given)
    assert "StatefulSet" not in kinds(objects)
    config = parse_train(shlex.split(of_kind(objects, "RayJob")["spec"]["entrypoint"])[2:])
    assert (config.replay.store, config.cluster.actor_nodes) == ("disk", "pool=cheap")


def test_a_standing_cluster_has_room_for_all_jobs() -> None:
    objects = applied(STANDING, "--actor.actors", "8")
    assert kinds(objects).count("RayCluster") == 1 and kinds(objects).count("StatefulSet") == 2
    learner, actors = of_kind(objects, "RayCluster")["spec"]["workerGroupSpecs"]
    assert learner["replicas"] == 2 and actors["replicas"] == 4
    assert of_kind(objects, "RayJob")["spec"]["clusterSelector"] == {"ray.io/cluster": "lab"}
    assert parse_train(shlex.split(of_kind(objects, "RayJob")["spec"]["entrypoint"])[2:]).cluster.wait
    larger = of_kind(applied(KubeRayConfig(cluster="lab", learner_pods=5)), "RayCluster")["spec"]["workerGroupSpecs"]
    assert (larger[0]["minReplicas"], larger[0]["replicas"], larger[0]["maxReplicas"]) == (5, 5, 5)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_pod_is_confined(name: str) -> None:
    for template in pod_templates(applied(VARIANTS[name])):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"] == container["resources"]["limits"]
            if container["name"] != "ray-job-submitter":
                assert {"readinessProbe", "livenessProbe"} <= container.keys()


@pytest.mark.parametrize("name", VARIANTS)
def test_only_pods_of_the_run_reach_each_other(name: str) -> None:
    objects = applied(VARIANTS[name])
    policies = {
        one["spec"]["podSelector"]["matchLabels"]["nexus-cluster"]: one["spec"]
        for one in objects if one["kind"] == "NetworkPolicy" and "Ingress" in one["spec"]["policyTypes"]
    }  # fmt: skip
    assert all(template["metadata"]["labels"]["nexus-cluster"] in policies for template in pod_templates(objects))
    for cluster, spec in policies.items():
        among = {"podSelector": {"matchLabels": {"nexus-cluster": cluster, "app.kubernetes.io/part-of": "nexus"}}}
        first, operator, *others = spec["ingress"]
        assert first == {"from": [among]} and [port["port"] for port in operator["ports"]] == [8265]
        assert bool(others) == (name in ("annotated", "monitored"))
        inside, names = spec["egress"]
        assert inside == {"to": [among]}
        assert names == {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}


def test_prometheus_finds_and_reaches_the_metrics() -> None:
    objects = applied(KubeRayConfig(metrics="pod-monitor"))
    monitor, job = of_kind(objects, "PodMonitor"), of_kind(objects, "RayJob")
    spec = job["spec"]["rayClusterSpec"]
    config = parse_train(shlex.split(job["spec"]["entrypoint"])[2:])
    assert (config.metrics_host, config.metrics_port) == ("0.0.0.0", 9100)
    (head,) = spec["headGroupSpec"]["template"]["spec"]["containers"]
    names = {port["name"]: port["containerPort"] for port in head["ports"]}
    own, raised = (one["port"] for one in monitor["spec"]["podMetricsEndpoints"])
    assert own == "metrics" and own not in names, "KubeRay adds it"
    assert names[raised] == config.metrics_port
    selected = monitor["spec"]["selector"]["matchLabels"].items()
    assert all(selected <= template["metadata"]["labels"].items() for template in pod_templates([job]))
    policy = next(one["spec"] for one in objects if one["kind"] == "NetworkPolicy" and "ingress" in one["spec"])
    (source,), ports = policy["ingress"][2]["from"], policy["ingress"][2]["ports"]
    assert source["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    assert [port["port"] for port in ports] == [9100, 8080]


def test_annotations_name_the_runs_port_at_the_head_and_rays_elsewhere() -> None:
    def ports(objects: list[Object]) -> list[str]:
        return [
            template["metadata"].get("annotations", {}).get("prometheus.io/port", "")
            for spec in cluster_specs(objects[-1:])
            for template in [spec["headGroupSpec"]["template"], *(one["template"] for one in spec["workerGroupSpecs"])]
        ]

    assert ports(applied(KubeRayConfig(metrics="annotations"))) == ["9100", "8080", "8080"]
    assert ports(applied(OWN)) == ["", "", ""]
    standing = applied(KubeRayConfig(metrics="annotations", cluster="lab"))
    assert ports([of_kind(standing, "RayCluster")]) == ["8080"] * 3, "runs of one head would want one port"
    assert "--metrics-port" not in of_kind(standing, "RayJob")["spec"]["entrypoint"]
    theirs = of_kind(applied(KubeRayConfig(metrics="annotations"), "--metrics-port", "7"), "RayJob")
    assert theirs["spec"]["entrypoint"].count("--metrics-port") == 1


def test_no_manifest_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_REDIS_PASSWORD", "sesame-of-redis")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "sesame-of-ray")
    for config in VARIANTS.values():
        target = KubeRay(config)
        assert "sesame" not in "".join(target.files(made()).values())
        for template in pod_templates(applied(config)):
            variables = [one for container in template["spec"]["containers"] for one in container.get("env", ())]
            for one in variables:
                if "PASSWORD" in one["name"] or "TOKEN" in one["name"]:
                    assert one.keys() == {"name", "valueFrom"} and one["valueFrom"]["secretKeyRef"]["name"] == "nexus"
    assert "Secret" not in kinds(applied(OWN))
    assert "--from-file" in how_to_make("nexus") and "literal" not in how_to_make("nexus")


def test_the_run_directory_outlives_the_cluster() -> None:
    objects = applied(OWN)
    assert of_kind(objects, "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]
    spec = of_kind(objects, "RayJob")["spec"]["rayClusterSpec"]
    learner, actors = spec["workerGroupSpecs"]
    for template in (spec["headGroupSpec"]["template"], learner["template"]):
        (volume,) = template["spec"]["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == "nexus-runs"
        assert template["spec"]["containers"][0]["volumeMounts"] == [{"name": volume["name"], "mountPath": "/runs"}]
    assert "volumes" not in actors["template"]["spec"]
    assert "PersistentVolumeClaim" not in kinds(applied(VARIANTS["given"]))


def test_what_cannot_run_there_is_refused() -> None:
    (job,) = made()
    elsewhere = replace(job, config=replace(job.config, logdir="/home/me/runs/a"))
    many = made("--actor.actors", "200", "--actor.environments", "200")[0]
    for one, config, said in (
        (elsewhere, OWN, "--logdir /home/me/runs/a is not below /runs"),
        (many, OWN, "need 50 pods .* kuberay.actor_pods=32 are the most"),
        (made("--cluster.actor-cpus", "8")[0], OWN, "cluster.actor_cpus=8 is more than the kuberay.actor_cpus=4"),
    ):
        with pytest.raises(ValueError, match=said):
            manifests(config, [one])
    same = replace(job, name="1" + "a" * 47), replace(job, name="1" + "a" * 46 + "b")
    with pytest.raises(ValueError, match="Two of the jobs would be named run-1aaa"):
        manifests(OWN, same)
    for wrong, said in (
        ({"queue": "a", "cluster": "b"}, "exclude each other"),
        ({"secret": "My Secret"}, "no name for Kubernetes"),
        ({"actor_pods": 0}, "at least 1"),
        ({"retries": -1}, "not be negative"),
    ):
        with pytest.raises(ValueError, match=said):
            KubeRayConfig(**wrong)


def test_names_fit_what_kubernetes_appends() -> None:
    (job,) = made()
    assert object_name(replace(job, name="a" * 48)) == "a" * 46
    assert object_name(replace(job, name="3d")) == "run-3d"
