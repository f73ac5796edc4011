"""`nexus launch --target slurm` with a real Slurm: two nodes, which are both this machine."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.exit_codes import MISUSED
from tests.deploy.launch.slurm.slurm_daemons import PATH, SlurmDaemons, missing
from tests.integration.listeners import listeners
from tests.integration.runs import NEXUS, TINY, environment, lines, wait_for
from tests.integration.test_listeners import assert_as_written, family
from tests.replay.redis.redis_servers import free_port

LONG = [*TINY, "--actor.actors", "1", "--frames", "1000000", "--log-every", "5", "--checkpoint-every", "50"]
PASSWORD = "a-password-of-redis"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(800),
    pytest.mark.skipif(bool(missing()), reason=f"needs slurm-wlm and munge; not on this machine: {missing()}"),
]


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmDaemons]:
    with SlurmDaemons() as daemons:
        yield daemons


@pytest.fixture(autouse=True)
def _reachable(slurm: SlurmDaemons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", PATH)
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NEXUS_REDIS_PASSWORD", PASSWORD)


def nexus(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [*NEXUS, *arguments], env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def launch(*arguments: str, target: str = "slurm") -> list[str]:
    """The job numbers that Slurm has given."""
    said = nexus("launch", *arguments, "--target", target, "--detach")
    assert "ssh -N -L 6060:127.0.0.1:" in said
    return re.findall(r"\(slurm job (\w+)\)", said)


def states() -> dict[str, str]:
    """What `nexus jobs` says of each job."""
    return {line["name"]: line["state"] for line in map(json.loads, nexus("jobs", "--json").splitlines())}


def updates(logdir: Path) -> int:
    return max((line["updates"] for line in lines(logdir / "metrics.jsonl")), default=0)


def wait_for_update(number: int, logdir: Path, job: str) -> None:
    """Wait until a run has made so many updates; with its output if it does not."""
    try:
        wait_for(lambda: updates(logdir) >= number, f"update {number}", 300)
    except TimeoutError as error:
        raise AssertionError(f"{error}; {nexus('jobs')}\n{output(logdir, job)[-4000:]}") from error


def members(job: str) -> list[psutil.Process]:
    """The processes of a job."""
    found = []
    for process in psutil.process_iter():
        try:
            given = process.environ()
            if (given.get("SLURM_JOB_ID"), given.get("SLURM_CONF")) == (job, os.environ["SLURM_CONF"]):
                found.append(process)
        except psutil.Error:
            continue
    return found


def token_of(job: str) -> Path:
    return Path(next(path for one in members(job) if (path := one.environ().get("RAY_AUTH_TOKEN_PATH"))))


def output(logdir: Path, job: str) -> str:
    path = logdir / "slurm" / f"{job}.log"
    return path.read_text() if path.exists() else ""


def address_of(logdir: Path, job: str) -> str:
    return re.findall(r"Ray cluster at (\S+)", output(logdir, job))[-1]


def refused(address: str, token: Path | None, folder: Path) -> str:
    """What a run is told that wants to join a cluster with another token, or none."""
    variables = {name: value for name, value in environment().items() if not name.startswith("RAY_")}
    variables |= {"HOME": str(folder)} | ({"RAY_AUTH_TOKEN_PATH": str(token)} if token else {})
    command = [*NEXUS, "train", "gym:CartPole-v1", "--logdir", str(folder / "refused")]
    done = subprocess.run(
        [*command, "--mode", "cluster", "--cluster.address", address], env=variables, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == MISUSED, done.stdout + done.stderr
    return done.stderr


def test_two_jobs_on_one_node_and_a_requeue(slurm: SlurmDaemons, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    jobs = [
        launch("gym:CartPole-v1", *LONG, "--logdir", str(logdir), "--slurm.sbatch", "nodelist=n0")[0]
        for logdir in (one, other)
    ]
    for logdir, job in zip((one, other), jobs, strict=True):
        wait_for_update(10, logdir, job)
    assert slurm.ask("squeue", "-h", "-t", "running", "-o", "%N").split() == ["n0", "n0"]

    assert_as_written("slurm", listeners(family(members(jobs[0]))))
    # Neither reaches the other, nor anybody without a token, nor any other machine.
    sockets = [
        {connection.laddr for process in members(job) for connection in process.net_connections("tcp")
         if connection.status == psutil.CONN_LISTEN}
        for job in jobs
    ]  # fmt: skip
    assert not {port for _, port in sockets[0]} & {port for _, port in sockets[1]}
    assert {address.removeprefix("::ffff:") for both in sockets for address, _ in both} == {"127.0.0.1"}
    tokens = [token_of(job) for job in jobs]
    assert [token.stat().st_mode & 0o777 for token in tokens] == [0o600, 0o600]
    assert [token.parent.stat().st_mode & 0o777 for token in tokens] == [0o700, 0o700]
    assert "rejects the token" in refused(address_of(one, jobs[0]), tokens[1], tmp_path)
    assert "requires a token" in refused(address_of(other, jobs[1]), None, tmp_path)

    # No secret where others may look.
    secrets = [PASSWORD, *(token.read_text() for token in tokens)]
    seen = [" ".join(process.cmdline()) for job in jobs for process in members(job)]
    seen += [slurm.ask("scontrol", "show", "job"), slurm.ask("scontrol", "write", "batch_script", jobs[0], "-")]
    seen += [str(process.environ()) for job in jobs for process in members(job)]
    folders = [tmp_path / "home", one, other]
    seen += [path.read_bytes().decode("latin-1") for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(seen) > 40
    assert not [secret for secret in secrets if any(secret in text for text in seen)]

    # What Slurm sends before the time limit: the run saves, waits in the queue and continues.
    slurm.ask("scancel", "--batch", "--signal=USR1", jobs[0])
    wait_for(lambda: "Restarts=1" in slurm.ask("scontrol", "show", "job", jobs[0]), "the requeue", 120)
    saved = json.loads((one / "status.json").read_text())
    assert saved["state"] == "ended" and saved["updates"] >= 10
    wait_for_update(saved["updates"] + 10, one, jobs[0])
    going = json.loads((one / "status.json").read_text())
    assert going["frames"] >= saved["frames"] and going["updates"] > saved["updates"]
    counted = [line["updates"] for line in lines(one / "metrics.jsonl")]
    assert counted == sorted(set(counted))
    assert token_of(jobs[0]) != tokens[0] and not tokens[0].exists()

    said = nexus("logs", "one")
    assert said.count("saved and requeued") == 1 and "start 2, on" in said
    assert states() == {"one": "training", "other": "training"}
    nexus("launch", "gym:CartPole-v1", *LONG, "--logdir", str(one), "--target", "slurm", code=2)  # it is still there

    assert "one has ended, saved at" in nexus("stop", "one")
    assert "Restarts=1" in slurm.ask("scontrol", "show", "job", jobs[0])
    assert json.loads((one / "status.json").read_text())["state"] == "ended"
    assert members(jobs[1])  # the other goes on
    assert "other has ended, saved at" in nexus("stop", "other")
    assert not tokens[1].parent.exists() and not members(jobs[1])


def test_an_array_of_three_seeds(slurm: SlurmDaemons, tmp_path: Path) -> None:
    short = [*TINY, "--actor.actors", "1", "--frames", "400"]
    jobs = launch("gym:CartPole-v1", *short, "--seeds", "0", "1", "2", "--logdir", str(tmp_path / "runs"))
    number = jobs[0].partition("_")[0]
    assert jobs == [f"{number}_0", f"{number}_1", f"{number}_2"]
    wait_for(lambda: list(states().values()) == ["ended"] * 3, "the end of all three", 500)
    for seed in range(3):
        logdir = tmp_path / "runs" / f"gym-cartpole-v1-seed{seed}"
        assert f"seed: {seed}\n" in (logdir / "config.yaml").read_text()
        assert json.loads((logdir / "status.json").read_text())["frames"] >= 400
    assert "saved" in nexus("logs", "gym-cartpole-v1-seed2")


def test_a_job_of_two_nodes(slurm: SlurmDaemons, tmp_path: Path) -> None:
    logdir = tmp_path / "wide"
    options = [*LONG[:-6], "--actor.actors", "2", *LONG[-6:], "--metrics-port", str(free_port())]
    (job,) = launch("gym:CartPole-v1", *options, "--logdir", str(logdir), "--slurm.nodes", "2")
    wait_for_update(10, logdir, job)
    assert "2 of 2 nodes have joined" in output(logdir, job)
    assert_as_written("slurm nodes", listeners(family(members(job))))
    assert "wide has ended, saved at" in nexus("stop", "wide")
    assert not members(job)
