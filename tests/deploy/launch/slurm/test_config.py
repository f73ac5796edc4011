"""What can be asked of Slurm, and what is refused, with the remedy."""

from dataclasses import replace
from typing import Any

import pytest

from deploy.launch.slurm.config import SlurmConfig, seconds


@pytest.mark.parametrize(
    ("time", "expected"),
    [("90", 5400), ("90:30", 5430), ("1:00:00", 3600), ("2-12", 216000), ("1-0:30", 88200), ("1-02:03:04", 93784)],
)
def test_a_time_limit_is_read_as_slurm_reads_it(time: str, expected: int) -> None:
    assert seconds(time) == expected


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("partition", "gpu; rm -rf /", r"slurm\.partition='gpu; rm -rf /' must be a name"),
        ("partition", "gpu\n#SBATCH --uid=0", "must be a name"),
        ("account", "a b", "must be a name"),
        ("time", "1h", r"slurm\.time='1h' must be MINUTES, H:MM:SS or DAYS-HOURS, e\.g\. 12:00:00"),
        ("time", "0:04:00", r"no time to train: it has to save 120 s \(slurm\.signal_seconds\) before its end"),
        ("mem", "32 GB", r"must be a size, e\.g\. 32G"),
        ("gpus_per_node", "two", "must be a number, or TYPE:NUMBER"),
        ("gres", "gpu 1", "of the form NAME:NUMBER"),
        ("constraint", "a100 && true", "features of nodes"),
        ("nodes", 0, r"slurm\.nodes=0 must be at least 1"),
        ("cpus_per_task", -1, "must be at least 0"),
        ("signal_seconds", 5, "must be at least 30"),
        ("sbatch", ("exclusive\n#",), "not of the form NAME=VALUE"),
        ("sbatch", ("--exclusive",), r"'--exclusive' is not of the form NAME=VALUE, e\.g\. reservation=lab"),
        ("sbatch", ("output=x",), "output is set by nexus launch"),
        ("sbatch", ("partition=x",), r"partition has an option of its own, --slurm\.partition"),
        ("sbatch", ("cpus-per-task=3",), r"--slurm\.cpus-per-task"),
        ("setup", ("a\nb",), "more than one line"),
    ],
)
def test_what_slurm_could_not_take_is_refused(field: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(SlurmConfig(), **{field: value})


def test_two_ways_to_ask_for_gpus_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="both ask for GPUs; give one"):
        SlurmConfig(gpus_per_node="1", gres="gpu:1")


def test_only_what_is_asked_for_becomes_an_option() -> None:
    assert SlurmConfig().options() == {}
    assert SlurmConfig(gpus_per_node="a100:1", time="2-0", constraint="a100|h100").options() == {
        "time": "2-0", "gpus-per-node": "a100:1", "constraint": "a100|h100",
    }  # fmt: skip
