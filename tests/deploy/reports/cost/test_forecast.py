"""nexus train --dry-run: what it says, and that it starts and writes nothing."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deploy.cli import main
from deploy.commands.train import parse_train
from deploy.reports.cost.forecast import choose_device, forecast, lines
from deploy.wiring.task import spaces_of
from tests.integration.runs import TINY, environment


def test_it_says_what_a_run_needs_and_starts_and_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from deploy.cli import main\n"
        "try: main(['train', *sys.argv[1:]])\n"
        "except SystemExit as left: code = left.code\n"
        "print(sorted({'ray', 'gymnasium'} & sys.modules.keys())); sys.exit(code)\n"
    )
    options = [*TINY, "--dry-run", "--learner.compile", "True"]
    done = subprocess.run(
        [sys.executable, "-c", code, "gym:CartPole-v1", *options], cwd=tmp_path, env=environment(),
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *said, loaded = done.stdout.splitlines()
    assert loaded == "[]", "no Ray, and the environment in a process of its own"
    assert not [*tmp_path.iterdir()]
    assert said[0] == (
        "gym:CartPole-v1, batch 4 x 8, 3 steps imagined, on this machine's CPU. Nothing has been started or written."
    )
    first = [line.split()[0] for line in said if line.strip()]
    for word in ("Parameters:", "rssm", "moments", "gradients", "activations", "snapshots", "Replay:", "observe",
                 "imagine", "judge", "backward", "optimize", "Expected:", "Assumptions:"):  # fmt: skip
        assert word in first, word


def test_a_gpu_that_is_too_small_and_one_that_is_not() -> None:
    config = parse_train(["gym:CartPole-v1", *TINY])
    spaces = spaces_of(config)
    found = forecast(config, spaces, "l4")
    assert found.device == "l4" and "process (Python, PyTorch, ...)" in found.beside
    assert found.peak == sum(found.rehearsal.memory)
    text = "\n".join(lines(config, spaces, found))
    assert "on one L4." in text and "of its 24 GB, the CUDA context not counted" in text
    assert "too little" not in text and "published rates" in text
    large = found.rehearsal.memory._replace(activations=30_000_000_000)
    text = "\n".join(lines(config, spaces, replace(found, memory=large._asdict())))
    assert "of its 24 GB, which is too little" in text


def test_of_several_processes_each_has_its_share_and_parts_take_less_memory() -> None:
    options = ["gym:CartPole-v1", *TINY, "--learner.batch-length", "32"]
    whole, divided, parts = (
        parse_train([*options, *more]) for more in ([], ["--learner.processes", "2"], ["--learner.accumulate", "2"])
    )
    spaces = spaces_of(whole)
    one, each, accumulated = (forecast(config, spaces, "h100") for config in (whole, divided, parts))
    assert each.rehearsal.memory.batch < 0.6 * one.rehearsal.memory.batch
    assert each.rehearsal.memory.activations < one.rehearsal.memory.activations
    assert accumulated.rehearsal.memory.activations < one.rehearsal.memory.activations
    text = "\n".join(lines(divided, spaces, each))
    assert "on each of 2 H100 with its share." in text and "exchange of gradients" in text


def test_a_faster_gpu_is_not_expected_to_be_slower() -> None:
    config = parse_train(["gym:CartPole-v1", *TINY])
    spaces = spaces_of(config)
    cheap, dear = (forecast(config, spaces, device).prediction for device in ("l4", "h100"))
    assert cheap.stages.keys() == dear.stages.keys() and cheap.seconds > 0
    assert any("starting" in one for one in dear.assumptions)


def test_devices_are_this_cpu_or_known_gpus() -> None:
    config = parse_train(["gym:CartPole-v1", *TINY])
    assert choose_device(config, "") == choose_device(config, "cpu") == "cpu"
    assert choose_device(config, "h100") == "h100"
    cuda = replace(config, learner=replace(config.learner, device="cuda"))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch sees no CUDA device; name the GPU: --dry-run-device rtx3090"):
            choose_device(cuda, "")
    assert choose_device(cuda, "h100") == "h100"
    with pytest.raises(ValueError, match="--dry-run-device h101 is not one of cpu, rtx3090, .*h100"):
        choose_device(config, "h101")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--dry-run", "--dry-run-device", "h101"], "--dry-run-device h101 is not one of cpu, rtx3090"),
        (["--dry-run-device", "cpu"], "nexus train: --dry-run-device is for --dry-run; add that, or leave it out."),
        (["--dry-run", "--size", "size2m"], "size 'size2m' is not one of size1m"),
    ],
)
def test_what_does_not_fit_is_one_error(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["train", "gym:CartPole-v1", *arguments])
    assert left.value.code == 2 and capsys.readouterr().err.startswith(expected)
