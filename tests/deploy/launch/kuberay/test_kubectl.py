"""`--target kuberay` through the real kubectl, where there is one."""

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from deploy.commands.train import parse_train
from deploy.launch.job import Job
from deploy.launch.kuberay.config import KubeRayConfig
from deploy.launch.kuberay.target import KubeRay
from deploy.launch.sweep import jobs
from deploy.launch.target import Launched
from deploy.run_failed import RunFailedError
from tests.deploy.launch.kuberay.api_server import ApiServer, serving

TARGET = KubeRay(KubeRayConfig())
KEYS = {"auth_token": "", "redis_password": ""}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """Kubernetes with the Secret and nothing else."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    made = ApiServer()
    made.objects["secrets", "nexus"] = {"kind": "Secret", "metadata": {"name": "nexus"}, "data": KEYS}
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(made, tmp_path) as file:
        monkeypatch.setenv("KUBECONFIG", str(file))
        yield made


def job() -> list[Job]:
    return jobs(["gym:CartPole-v1"], [0], [], ["--preset", "quick"], parse_train, PurePosixPath("/runs"))


def set_status(server: ApiServer, launched: Launched, **status: Any) -> None:
    server.objects["rayjobs", launched.id]["status"] = status


def test_from_its_launch_to_its_end_and_again(server: ApiServer) -> None:
    made = job()
    (launched,) = TARGET.launch(made)
    name = launched.id
    assert (name, launched.target, launched.place) == ("gym-cartpole-v1-seed0", "kuberay", "/")
    plurals = {"persistentvolumeclaims", "configmaps", "services", "statefulsets", "networkpolicies", "rayjobs"}
    assert {plural for plural, _ in server.objects} == {"secrets", *plurals}
    target = KubeRay.of(launched.place)
    assert target.state(launched) == ("waiting", "")
    with pytest.raises(ValueError, match="is waiting already; `nexus stop gym-cartpole-v1-seed0` ends it"):
        list(TARGET.launch(made))
    with pytest.raises(RunFailedError, match=f"has no cluster now; what it logged is in /runs/{name}"):
        list(target.logs(launched, follow=False))

    head = {"rayClusterStatus": {"head": {"podName": "the-head"}}}
    server.objects["pods", "the-head"] = {
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "the-head", "namespace": "lab"},
        "spec": {"containers": [{"name": "ray-head"}, {"name": "ray-job-submitter"}]},
    }  # fmt: skip
    server.logs["the-head"] = "one\ntwo\n"
    set_status(server, launched, jobDeploymentStatus="Running", **head)
    assert target.state(launched)[0] == "running"
    assert "".join(target.logs(launched, follow=True)) == "one\ntwo\n"

    set_status(server, launched, jobDeploymentStatus="Failed", message="it broke", **head)
    assert target.state(launched) == ("failed", "it broke")
    server.asked.clear()
    list(TARGET.launch(made))  # the same again: Kubernetes starts what is new, not what has ended
    own = [asked for asked in server.asked if "/rayjobs" in asked]
    assert own.index(f"DELETE /apis/ray.io/v1/namespaces/lab/rayjobs/{name}") < own.index(
        "POST /apis/ray.io/v1/namespaces/lab/rayjobs"
    )

    set_status(server, launched, jobDeploymentStatus="Complete")
    assert target.stop(launched, 5).endswith("its pods are removed, its volumes kept")
    assert target.state(launched) == ("gone", "")
    assert server.objects["statefulsets", f"{name}-redis"]["spec"]["replicas"] == 0
    list(TARGET.launch(made))
    assert server.objects["statefulsets", f"{name}-redis"]["spec"]["replicas"] == 2


def test_a_standing_cluster_is_left_as_it_is(server: ApiServer) -> None:
    """Jobs that run there have their pods from it."""
    target = KubeRay(KubeRayConfig(cluster="lab", redis_shards=0))
    list(target.launch(job()))
    cluster = server.objects["rayclusters", "lab"]
    cluster["spec"]["workerGroupSpecs"][0]["replicas"] = 3
    server.asked.clear()
    list(target.launch(jobs(["gym:CartPole-v1"], [1], [], ["--preset", "quick"], parse_train, PurePosixPath("/runs"))))
    assert not [asked for asked in server.asked if "/rayclusters" in asked and not asked.startswith("GET")]
    assert {name for plural, name in server.objects if plural == "rayjobs"} == {
        "gym-cartpole-v1-seed0", "gym-cartpole-v1-seed1",
    }  # fmt: skip


def test_a_secret_without_its_keys_is_named(server: ApiServer) -> None:
    server.objects["secrets", "nexus"] = {"kind": "Secret", "metadata": {"name": "nexus"}, "data": {"auth_token": ""}}
    with pytest.raises(ValueError, match="(?s)The Secret nexus has no redis_password.*--from-file=auth_token"):
        list(TARGET.launch(job()))
    assert not [asked for asked in server.asked if asked.startswith("POST")]


def test_without_kubectl_or_a_cluster_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = shutil.which("kubectl")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="needs kubectl, which is not installed here; .* --dry-run --out FOLDER"):
        list(TARGET.launch(job()))
    if not path:
        pytest.skip("kubectl is not installed")
    monkeypatch.setenv("PATH", f"{Path(path).parent}:/bin")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    launched = Launched(name="a", target="kuberay", id="a", place="/", task="", logdir="/runs/a", time=0.0)
    state, why = KubeRay.of(launched.place).state(launched)
    assert state == "unreachable" and "connection" in why
