"""The jobs of a launch: names, run directories and command lines."""

import re
from pathlib import PurePosixPath

import pytest

from deploy.commands.train import parse_train
from deploy.launch.job import NAME, Job, job_name
from deploy.launch.sweep import jobs

RUNS = PurePosixPath("/runs")


def _jobs(
    *settings: str, tasks: str = "gym:CartPole-v1", seeds: tuple[int, ...] = (0,), **where: PurePosixPath
) -> list[Job]:
    return jobs(tasks.split(), seeds, settings, ["--preset", "quick"], parse_train, **({"folder": RUNS} | where))


def test_a_single_job_has_the_given_run_directory_or_one_named_after_it() -> None:
    [job] = _jobs(seeds=(3,))
    assert (job.name, job.config.logdir, job.config.seed) == ("gym-cartpole-v1-seed3", "/runs/gym-cartpole-v1-seed3", 3)
    [job] = _jobs(single=PurePosixPath("/shared/My_Run"))
    assert (job.name, job.config.logdir) == ("my-run", "/shared/My_Run")
    assert job.command("--cluster.wait", "True") == [
        "nexus", "train", "gym:CartPole-v1", "--preset", "quick", "--seed", "0", "--logdir", "/shared/My_Run",
        "--mode", "cluster", "--cluster.wait", "True",
    ]  # fmt: skip


def test_a_sweep_is_every_combination_once() -> None:
    made = _jobs("learner.train-ratio=16,32", tasks="gym:CartPole-v1 gym:Acrobot-v1", seeds=(0, 1, 1))
    assert [job.name for job in made] == [
        f"gym-{task}-v1-train-ratio-{ratio}-seed{seed}"
        for task in ("cartpole", "acrobot") for ratio in (16, 32) for seed in (0, 1)
    ]  # fmt: skip
    assert [job.config.learner.train_ratio for job in made[:3]] == [16, 16, 32]
    assert made[-1].config.logdir == "/runs/gym-acrobot-v1-train-ratio-32-seed1"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["learner.train-ratio"], "not of the form OPTION=VALUE"),
        (["learner.train-ratio=16,"], "not of the form OPTION=VALUE"),
        (["learner.train-ratios=16,32"], "nearest: --learner.train-ratio"),
        (["=1,2"], "not of the form OPTION=VALUE"),
    ],
)
def test_settings_that_are_wrong_are_named(settings: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _jobs(*settings)


def test_long_names_keep_their_seed_and_stay_apart() -> None:
    settings = ["learner.train-ratio=16,32", "actor.actors=1,2", "learner.optimizer.lr=1e-4,3e-4"]
    names = [job.name for job in _jobs(*settings, seeds=(0, 1))]
    assert len(set(names)) == 16 and max(map(len, names)) <= 48
    assert all(re.fullmatch(NAME, name) and name.endswith(("-seed0", "-seed1")) for name in names)


def test_two_jobs_never_share_a_name() -> None:
    with pytest.raises(ValueError, match="two of the jobs would be named"):
        _jobs("learner.optimizer.lr=1e-4,1e+4")
    assert job_name("gym:My_Env-v0, seed 1") == "gym-my-env-v0-seed-1" and len(job_name("x" * 90)) == 48
    with pytest.raises(ValueError, match="makes no name"):
        job_name("::")
