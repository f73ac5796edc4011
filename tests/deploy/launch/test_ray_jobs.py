"""What is submitted to a Ray cluster, and what is refused before anybody is asked."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.cli import main
from deploy.distributed.cluster.user_code import JOB, runtime_environment
from deploy.launch.ray_jobs.config import RayJobsConfig, address_of
from deploy.wiring.config import HooksConfig, RunConfig
from deploy.wiring.redis_password import PASSWORD_FILE, VARIABLE

ADDRESS = "http://127.0.0.1:1"
LAUNCH = ["launch", "gym:CartPole-v1", "--preset", "quick"]


def _main(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return left.value.code


def test_a_dry_run_shows_the_job_and_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "s3cret")
    monkeypatch.setenv(PASSWORD_FILE, "/etc/nexus/redis")
    options = [
        "--replay", "redis://:s3cret@h", "--address", ADDRESS, "--ray.num-cpus", "1", "--ray.resources", "big=0.5",
        "--ray.labels", "role=learner", "zone=a", "--ray.python", "/my env/bin/python", "--dry-run", "--out", "plan",
    ]  # fmt: skip
    assert _main(*LAUNCH, *options) == 0
    text = Path("plan", "gym-cartpole-v1-seed0.json").read_text()
    request = json.loads(text)
    assert request["entrypoint"] == (
        "exec '/my env/bin/python' -P -m deploy.cli train gym:CartPole-v1 --preset quick --replay redis://h "
        f"--seed 0 --logdir {tmp_path}/runs/gym-cartpole-v1-seed0 --mode cluster --cluster.wait True"
    )
    assert request["entrypoint_num_cpus"] == 1 and request["entrypoint_resources"] == {"big": 0.5}
    assert request["entrypoint_label_selector"] == {"role": "learner", "zone": "a"}
    assert request["runtime_env"]["env_vars"][PASSWORD_FILE] == "/etc/nexus/redis"
    assert "s3cret" not in text + capsys.readouterr().out and not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*LAUNCH], "The address of Ray's job server is missing"),
        ([*LAUNCH, "--address", "head:6379"], "is not of the form http://HOST:PORT"),
        (["launch", "--address", ADDRESS], "TASK comes first"),
        ([*LAUNCH, "--address", ADDRESS, "--seed", "3"], "--seeds N"),
        ([*LAUNCH, "--address", ADDRESS, "--mode", "local"], "always one of --mode cluster"),
        ([*LAUNCH, "--address", ADDRESS, "--out", "x"], "--out is for --dry-run"),
        ([*LAUNCH, "--address", ADDRESS, "--learner.batchsize", "3"], "--learner.batch-size"),
        ([*LAUNCH, "--address", ADDRESS, "--ray.resources", "big"], "resources: 'big' is not of the form NAME=AMOUNT"),
        ([*LAUNCH, "--address", ADDRESS, "--ray.labels", "role"], "labels: 'role' is not of the form KEY=VALUE"),
        ([*LAUNCH, "--target", "cloud"], "cloud"),
        ([*LAUNCH, "--address", ADDRESS, "--vary", "seed=1,2"], "--seeds N"),
        ([*LAUNCH, "--address", ADDRESS, "--vary", "logdir=/x,/y"], "--logdir gives the folder"),
        ([*LAUNCH, "--address", ADDRESS, "--frames", "9", "--vary", "frames=1,2"], "--frames is given twice"),
        (
            [*LAUNCH, "--address", ADDRESS, "--dry-run", "--out", "/dev/null/x"],
            "--out /dev/null/x cannot be written to",
        ),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert _main(*arguments) == 2
    assert message in capsys.readouterr().err


def test_nothing_is_launched_without_a_place_for_its_record(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXUS_HOME", "/dev/null")
    assert _main(*LAUNCH, "--address", ADDRESS) == 2
    assert "The folder of launched runs (see NEXUS_HOME) /dev/null/jobs cannot be written to" in capsys.readouterr().err


def test_an_address_may_come_from_rays_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://head:8265/")
    assert address_of("") == "https://head:8265" and address_of("http://other:1") == "http://other:1"
    with pytest.raises(ValueError, match="not of the form"):
        address_of("http://user:password@head:8265")
    for wrong in ("http://[::1", "http://h:99999", "http://h:abc", "http://h:0"):
        with pytest.raises(ValueError, match="is not of the form"):
            address_of(wrong)
    with pytest.raises(ValueError, match="and finite"):
        RayJobsConfig(num_cpus=float("nan"))
    with pytest.raises(ValueError, match="must be a number above 0"):
        RayJobsConfig(resources=("big=-1",))


def test_what_is_no_job_server_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert _main(*LAUNCH, "--address", address) == 1
        server.shutdown()
        thread.join(10)
    assert f"{address} is not a job server of Ray (status 501)" in capsys.readouterr().err


def test_code_travels_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").touch()
    config = RunConfig(hooks=HooksConfig(on_train_result="mine:report"))
    with runtime_environment(config, tmp_path, tmp_path / "runs") as environment:
        assert environment is None, "the hooks of a run are called where the command runs"
    with runtime_environment(config, tmp_path, tmp_path / "runs", hooks=True) as environment:
        assert environment and environment["working_dir"].endswith(".zip")
    monkeypatch.setenv(JOB, json.dumps({"runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"}}))
    with runtime_environment(RunConfig(task="gym:mine:Mine-v0"), tmp_path, tmp_path / "runs") as environment:
        assert environment is None, "a job has its code already"


def test_help_and_dry_runs_need_neither_torch_nor_ray() -> None:
    program = (
        "import sys\nfrom deploy.commands.launching import launch\n"
        "from deploy.commands.launching import jobs, logs\nprint([m for m in ('torch', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=500)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
