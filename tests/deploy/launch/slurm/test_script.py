"""The batch script: bash and Slurm read in it what was meant, whatever the texts are."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.commands.train import parse_train
from deploy.launch.job import Job
from deploy.launch.slurm.config import SlurmConfig
from deploy.launch.slurm.script import array_indexes, cpus_of, folder_of, render
from deploy.wiring.config import RunConfig
from tests.deploy.launch.slurm.slurm_daemons import SlurmDaemons, missing

HOSTILE = """a b'c"d$(touch hit)`touch hit`;touch hit\n#SBATCH --uid=0 \\ * ~ ! é"""


def job(logdir: str, *arguments: str, task: str = "gym:CartPole-v1") -> Job:
    every = (task, *arguments, "--logdir", logdir)
    return Job(name=Path(logdir).name, arguments=every, config=parse_train(every))


def passed_on(script: str, folder: Path, index: str = "") -> list[str]:
    """What the program that the script runs would get."""
    program = f"{shlex.quote(sys.executable)} -P -m deploy.launch.slurm.allocation"
    assert f"exec {program} " in script
    shown = f"{shlex.quote(sys.executable)} -c 'import json, sys; print(json.dumps(sys.argv[1:]))'"
    done = subprocess.run(
        ["bash"], input=script.replace(program, shown), cwd=folder, env={"SLURM_ARRAY_TASK_ID": index},
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert not done.stderr
    arguments: list[str] = json.loads(done.stdout.splitlines()[-1])
    return arguments


def options(script: str) -> list[str]:
    """The options of sbatch, up to the first line of another kind, where Slurm ends."""
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    found: list[str] = []
    for line in lines[1:]:
        if not line.startswith("#"):
            return found
        found += [line.removeprefix("#SBATCH ")] * line.startswith("#SBATCH")
    return found


def test_hostile_texts_stay_one_argument(tmp_path: Path) -> None:
    plain = job("/runs/one")
    hostile = replace(plain, arguments=("gym:CartPole-v1", "--logging.wandb", HOSTILE, "--logdir", "/runs/one"))
    script = render([hostile], SlurmConfig(), "/here")
    assert passed_on(script, tmp_path) == ["120", *hostile.arguments]
    assert "--uid=0" not in "".join(options(script))
    assert not list(tmp_path.iterdir())


def test_each_job_of_an_array_gets_its_own_arguments(tmp_path: Path) -> None:
    jobs = [job(f"/runs/seed{seed}", "--seed", str(seed)) for seed in (0, 1, 2)]
    script = render(jobs, SlurmConfig(at_once=2, signal_seconds=60), "/here")
    assert "--array=0-2%2" in options(script)
    assert "--output=/runs/slurm/%A_%a.log" in options(script)
    for seed in range(3):
        assert passed_on(script, tmp_path, str(seed)) == ["60", *jobs[seed].arguments]


def test_indexes_are_the_seeds_if_nothing_else_differs() -> None:
    seeds = [job(f"/runs/{seed}", "--seed", str(seed)) for seed in (3, 7)]
    assert array_indexes(seeds) == [3, 7]
    assert "--array=3,7" in options(render(seeds, SlurmConfig(), "/here"))
    assert array_indexes([seeds[0], job("/runs/a", "--seed", "4", task="gym:Pendulum-v1")]) == [0, 1]
    assert array_indexes([*seeds, job("/runs/b", "--seed", "3", "--learner.batch-size", "8")]) == [0, 1, 2]
    assert array_indexes([*seeds, job("/runs/c", "--seed", "1000000")]) == [0, 1, 2]


def test_the_options_say_what_was_asked_for() -> None:
    config = SlurmConfig(
        partition="gpu", account="lab", qos="long", time="12:00:00", nodes=2, cpus_per_task=16, mem="64G",
        gpus_per_node="1", constraint="a100|h100", sbatch=("exclusive", "comment=a #b"), setup=("module load cuda",),
    )  # fmt: skip
    script = render([job("/shared/my runs/50%")], config, "/home/me/it's")
    assert options(script) == [
        "--job-name=50%",
        '--chdir="/home/me/it\'s"',
        '--output="/shared/my runs/50%%/slurm/%j.log"',
        "--open-mode=append", "--requeue", "--signal=B:USR1@120",
        "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=16",
        "--partition=gpu", "--account=lab", "--qos=long", "--time=12:00:00", "--mem=64G", "--gpus-per-node=1",
        "--constraint=a100|h100", "--exclusive", '--comment="a #b"',
    ]  # fmt: skip
    assert "\nmodule load cuda\nrun=(" in script


@pytest.mark.parametrize(
    ("setup", "said"),
    [(["if true"], r"bash cannot parse slurm\.setup: line \d"), (["echo 'a"], "unexpected EOF")],
)
def test_setup_lines_that_are_not_bash_are_refused(setup: Sequence[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        render([job("/runs/one")], SlurmConfig(setup=tuple(setup)), "/here")


def test_paths_that_slurm_cannot_write_to_are_refused() -> None:
    with pytest.raises(ValueError, match="has a backslash, with which Slurm writes no logs"):
        folder_of([job("/runs/a\\b")])
    with pytest.raises(ValueError, match="has a line break"):
        render([job("/runs/one")], SlurmConfig(), "/here\nthere")


@pytest.mark.parametrize(
    ("actors", "each", "nodes", "evaluates", "cpus"),
    [(2, 1.0, 1, True, 4), (2, 1.0, 1, False, 3), (8, 0.5, 1, True, 6), (6, 1.0, 2, True, 4), (1, 1.0, 4, True, 2)],
)
def test_there_are_as_many_cpus_as_the_run_reserves(
    actors: int, each: float, nodes: int, evaluates: bool, cpus: int
) -> None:
    config = RunConfig()
    config = replace(
        config, actor=replace(config.actor, actors=actors), cluster=replace(config.cluster, actor_cpus=each),
        evaluation=replace(config.evaluation, every=1000 * evaluates),
    )  # fmt: skip
    assert cpus_of(config, nodes) == cpus


def test_the_autoscaler_needs_a_number_of_cpus() -> None:
    grows = job("/runs/one", "--actor.autoscale.on", "True")
    with pytest.raises(ValueError, match="give --slurm.cpus-per-task"):
        render([grows], SlurmConfig(), "/here")
    assert "--cpus-per-task=34" in options(render([grows], SlurmConfig(cpus_per_task=34), "/here"))


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmDaemons]:
    if absent := missing():
        pytest.skip(f"needs slurm-wlm and munge; not on this machine: {absent}")
    with SlurmDaemons() as daemons:
        yield daemons


def test_sbatch_takes_the_script(slurm: SlurmDaemons, tmp_path: Path) -> None:
    strange = tmp_path / "a b#c'd\"e%f"
    strange.mkdir()
    jobs = [job(str(strange / f"seed{seed}"), "--seed", str(seed)) for seed in (0, 1, 2)]
    config = SlurmConfig(
        partition="main", time="1-0", nodes=2, mem="1M", sbatch=("exclusive", "comment=a #b"), setup=("echo hi",)
    )
    (tmp_path / "job.sbatch").write_text(render(jobs, config, str(strange)))
    slurm.ask("sbatch", "--test-only", str(tmp_path / "job.sbatch"))
    number = slurm.ask("sbatch", "--parsable", "--hold", str(tmp_path / "job.sbatch")).strip()
    shown = slurm.ask("scontrol", "show", "job", number)
    slurm.ask("scancel", number)
    assert f"WorkDir={strange}\n" in shown
    assert f"StdOut={strange}/slurm/{number}_".replace("%", "%%") in shown
    assert "ArrayTaskId=0-2" in shown and "Comment=a #b" in shown and "TimeLimit=1-00:00:00" in shown
