"""`nexus pretrain genie`: the three stages in turn, on frames of another size than the preset's; exact continuation."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from tests.integration.pretraining import PROBE, TRAINING, write_clips
from tests.integration.runs import NEXUS, checkpoints, run, start
from world_models.genie.genie import Genie
from world_models.loading import load_model

BLOCKS = [
    word
    for part in ("encoder", "decoder")
    for word in (f"{part}.width", "16", f"{part}.depth", "1", f"{part}.heads", "2")
]


def options(stage: str) -> list[str]:
    return [f"--{stage}.model.{word}" if word[0].isalpha() else word for word in BLOCKS]


SMALL = [
    *options("tokenizer"), *options("latent-action"), "--model.size", "16", "--tokenizer.model.frames", "4",
    "--dynamics.model.dynamics.transformer.width", "16", "--dynamics.model.dynamics.transformer.heads", "2",
    "--dynamics.model.dynamics.steps", "2", "--training.updates", "4",
]  # fmt: skip


def pretrain(data: Path, logdir: Path, *more: str) -> list[str]:
    return [
        *NEXUS, "pretrain", "genie", "--data", str(data), "--logdir", str(logdir), *SMALL, *TRAINING, *PROBE, *more,
    ]  # fmt: skip


def finished(folder: Path, arguments: list[str]) -> None:
    done = run(folder, arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stages_make_a_world_and_are_not_repeated(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    finished(tmp_path, pretrain(tmp_path / "clips", tmp_path / "world"))
    made = {stage: sorted((tmp_path / "world" / stage / "checkpoints").iterdir()) for stage in
            ("tokenizer", "latent_action", "dynamics")}  # fmt: skip
    assert all(made.values())
    before = {path: path.stat().st_mtime_ns for paths in made.values() for path in paths}
    world = load_model(tmp_path / "world")
    assert isinstance(world, Genie) and world.config.size == 16 and world.config.actions == 6
    frames = world.generate(torch.zeros(1, 1, 16, 16, 3, dtype=torch.uint8), torch.tensor([[0, 5]]))
    assert frames.shape == (1, 2, 16, 16, 3)
    finished(tmp_path, pretrain(tmp_path / "clips", tmp_path / "world"))
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_real_actions_take_the_place_of_latent_ones(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    finished(tmp_path, pretrain(tmp_path / "clips", tmp_path / "world", "--real-actions"))
    assert not (tmp_path / "world" / "latent_action").exists()
    world = load_model(tmp_path / "world")
    assert isinstance(world, Genie) and world.config.real_actions == 2


def test_killed_while_it_saves_a_stage_continues_bit_for_bit(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    small = [word.replace("--tokenizer.", "--") for word in options("tokenizer")]

    def tokenizer(logdir: Path) -> list[str]:
        return [
            *NEXUS, "pretrain", "genie-tokenizer", "--data", str(tmp_path / "clips"), "--logdir", str(logdir), *small,
            "--model.size", "16", "--model.frames", "4", *TRAINING, *PROBE, "--training.updates", "12",
            "--checkpoint-every", "6",
        ]  # fmt: skip

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    finished(tmp_path, tokenizer(straight))
    process = start(tmp_path, tokenizer(killed))
    writing = killed / "checkpoints" / f".{12:010d}.new"
    while process.poll() is None and not (writing / "model.safetensors").exists():
        time.sleep(0.0002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(300) == -signal.SIGKILL, (tmp_path / "output.log").read_text()
    assert writing.exists() and checkpoints(killed) == [6]
    finished(tmp_path, tokenizer(killed))
    ours, theirs = (load_file(run / "checkpoints" / f"{12:010d}" / "model.safetensors") for run in (straight, killed))
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in ours)
