"""Jobs in a real Slurm: submitted, looked at and taken back before they run; and without any Slurm."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from deploy.commands.train import parse_train
from deploy.launch import records
from deploy.launch.job import Job
from deploy.launch.slurm.config import SlurmConfig
from deploy.launch.slurm.jobs import SlurmJobs
from deploy.launch.target import Launched
from deploy.run_failed import RunFailedError
from deploy.stored.run_status import write_status
from tests.deploy.launch.slurm.slurm_daemons import PATH, SlurmDaemons, missing
from tests.integration.runs import wait_for

HELD = SlurmJobs(SlurmConfig(sbatch=("begin=now+3600",)))
TARGET = SlurmJobs(SlurmConfig())


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmDaemons]:
    if absent := missing():
        pytest.skip(f"needs slurm-wlm and munge; not on this machine: {absent}")
    with SlurmDaemons() as daemons:
        yield daemons


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "home"))


@pytest.fixture
def reachable(slurm: SlurmDaemons, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**slurm.environment, "PATH": PATH}.items():
        monkeypatch.setenv(name, value)


def job(logdir: Path, seed: int = 0) -> Job:
    arguments = ("gym:CartPole-v1", "--seed", str(seed), "--logdir", str(logdir))
    return Job(name=logdir.name, arguments=arguments, config=parse_train(arguments))


def launched(logdir: Path, number: str) -> Launched:
    return Launched(
        name="one", target="slurm", id=number, place="", task="gym:CartPole-v1", logdir=str(logdir),
        time=time.time(),
    )  # fmt: skip


def _waits(one: Launched, reason: str) -> bool:
    return HELD.state(one) == ("waiting", reason)


@pytest.mark.usefixtures("reachable")
def test_jobs_are_taken_out_of_the_queue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = [job(tmp_path / f"seed{seed}", seed) for seed in (0, 1)]
    given = list(HELD.launch(seeds))
    assert "ssh -N -L 6060:127.0.0.1:" in capsys.readouterr().out
    number = given[0].id.partition("_")[0]
    assert [one.id for one in given] == [f"{number}_0", f"{number}_1"]
    assert "--requeue" in (tmp_path / "slurm" / f"{number}.sbatch").read_text()
    for one in given:  # Slurm needs a moment to find the reason
        wait_for(partial(_waits, one, "BeginTime"), "the reason", 30)
    assert list(HELD.logs(given[1], follow=False)) == ["seed1 waits: BeginTime\n"]
    assert HELD.stop(given[0], 30) == "seed0 was taken out of the queue"
    assert HELD.state(given[0])[0] in ("stopped", "gone")  # Slurm may forget it at once
    assert HELD.state(given[1])[0] == "waiting"
    assert list(HELD.logs(given[0], follow=True)) == []

    records.write(given[1])
    with pytest.raises(
        ValueError, match=r"seed1 is that of the job \d+_1, which has not ended; nexus stop seed1 ends it"
    ):
        list(HELD.launch([seeds[1]]))
    assert HELD.stop(given[1], 30) == "seed1 was taken out of the queue"


@pytest.mark.usefixtures("reachable")
def test_what_slurm_refuses_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="Slurm refuses: .*invalid partition specified: nowhere"):
        list(SlurmJobs(SlurmConfig(partition="nowhere")).launch([job(tmp_path / "one")]))


@pytest.mark.usefixtures("reachable")
def test_a_job_that_slurm_has_forgotten_is_what_its_run_was(tmp_path: Path) -> None:
    one = launched(tmp_path, "999999")
    assert TARGET.state(one) == ("gone", "Slurm does not know it any more")
    with pytest.raises(RunFailedError, match="one cannot be stopped: Slurm does not know it any more"):
        TARGET.stop(one, 10)
    write_status(tmp_path, {"state": "ended"})
    assert TARGET.state(one) == ("ended", "")
    write_status(tmp_path, {"state": "failed", "reason": "the learner failed"})
    assert TARGET.state(one) == ("failed", "the learner failed")


def test_without_slurm_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunFailedError, match="sbatch is not on this machine: give the command on a login node"):
        list(TARGET.launch([job(tmp_path / "one")]))
    assert TARGET.state(launched(tmp_path, "1"))[0] == "unreachable"
    assert "#SBATCH --requeue" in TARGET.files([job(tmp_path / "one")])["job.sbatch"]
