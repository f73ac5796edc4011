"""What a configuration refuses, from a command line and from an edited file."""

import dataclasses
import fcntl
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from deploy.cli import main
from deploy.commands.train import parse_train
from deploy.wiring.claim import LOCK
from deploy.wiring.config import RunConfig, claim_logdir, load_config
from deploy.wiring.config_file import save_config
from deploy.wiring.presets import options_for
from world_models.checkpoint_files import RUN_CONFIG
from world_models.dataclass_json import from_json, to_json


def _floats(config: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _floats(value, f"{prefix}{field.name}.")
        elif field.type in (float, float | None):
            yield f"{prefix}{field.name}", value


FLOATS = dict(_floats(RunConfig()))


def _with(name: str, value: Any) -> dict[str, Any]:
    tree = to_json(RunConfig())
    *groups, last = name.split(".")
    part = tree
    for group in groups:
        part = part[group]
    part[last] = value
    return tree


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", FLOATS)
def test_a_number_that_is_not_finite_is_refused_in_every_field(name: str, value: float) -> None:
    if value == FLOATS[name]:
        assert from_json(RunConfig, _with(name, value)).replay.selection.initial == math.inf
        return
    with pytest.raises(ValueError, match=name.rpartition(".")[2]):
        from_json(RunConfig, _with(name, value))


def test_a_tolerance_at_which_acting_and_learning_would_block_each_other_is_refused() -> None:
    options = ["gym:CartPole-v1", "--learner.batch-size", "4", "--learner.batch-length", "16"]  # 64 steps
    options += ["--actor.environments", "5", "--actor.actors", "2", "--actor.flush-steps", "10"]  # blocks of 30 rows
    options += ["--learner.train-ratio", "2", "--replay.tolerance"]
    with pytest.raises(ValueError, match=r"replay.tolerance=61 is too small for .*train_ratio=2.* at least 62, or 0"):
        parse_train([*options, "61"])
    assert parse_train([*options, "62"]).replay.tolerance == 62
    assert parse_train([*options, "1", "--mode", "inline"]), "it takes turns instead"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mode", "inline"], "learner.processes=2 does not work in mode=inline, .* use mode local or cluster"),
        (["--cluster.learner-gpus", "1"], "learner_gpus=1, but each of learner.processes=2 needs a GPU .* at least 2"),
        (
            ["--replay", "redis://a", "--replay.selection.uniform", "0.5", "--replay.selection.priority", "0.5"],
            "selection.priority=0.5 on Redis servers does not work with learner.processes=2",
        ),
        (["--learner.batch-size", "5"], "batch_size=5 cannot be divided .* make it a multiple of 2"),
    ],
)
def test_processes_that_cannot_share_the_batches_of_a_run_are_refused(options: list[str], message: str) -> None:
    words = ["gym:CartPole-v1", "--learner.processes", "2"]
    assert parse_train([*words, "--learner.accumulate", "2"]).learner.processes == 2
    with pytest.raises(ValueError, match=message):
        parse_train([*words, *options])


def test_all_float_fields_were_looked_at() -> None:
    assert {"learner.train_ratio", "learner.optimizer.lr", "model.lam", "replay.selection.uniform"} <= FLOATS.keys()


@pytest.mark.parametrize("flag", ["--learner.train-ratio", "--learner.optimizer.lr", "--model.lam"])
def test_a_flag_that_is_not_finite_is_refused(flag: str) -> None:
    with pytest.raises(ValueError, match="must be a finite number"):
        parse_train(["gym:CartPole-v1", flag, "nan"])


WRONG = {
    "learner:\n  batch_size: many": "learner.batch_size is 'many' (a string), expected an integer.",
    "learner:\n  batch_size: 16.5": "learner.batch_size is 16.5 (float), expected an integer.",
    "frames: 1e6": "frames is '1e6' (a string), expected an integer; write 1000000.",
    "learner:\n  optimizer:\n    lr: 1e-3": "learner.optimizer.lr is '1e-3' (a string), expected a number; write 0.001",
    "learner:\n  train_ratio: true": "learner.train_ratio is True (a boolean), expected a number.",
    "learner:\n  train_ratio: .nan": "learner.train_ratio=nan must be a finite number.",
    "learner: 3": "learner is 3 (int), expected a mapping of fields to values.",
    "learner:": "learner is empty, expected a mapping of fields to values.",
    "seed: [1, 2]": "seed is [1, 2] (a list), expected an integer.",
    "mode: lokal": "mode is 'lokal' (a string), expected one of: inline, local, cluster.",
    "mode: [local]": "mode is ['local'] (a list), expected one of: inline, local, cluster.",
    "environment:\n  image_size: 64": "environment.image_size is 64 (int), expected a list.",
    "environment:\n  image_size: [a, b]": "environment.image_size[0] is 'a' (a string), expected an integer.",
    "environment:\n  check_steps: 1": "environment.check_steps is 1 (int), expected true or false.",
    "learner:\n  batchsize: 1": "Unknown field learner.batchsize; the nearest: batch_size",
    "3: 4": "Unknown field 3; the nearest: ",
    "frames: 0": "frames=0 must be at least 1.",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items())
def test_a_wrong_value_in_a_file_is_named_with_file_field_and_type(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / RUN_CONFIG).write_text(f"task: gym:CartPole-v1\n{text}\n")
    with pytest.raises(ValueError) as caught:
        load_config(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / RUN_CONFIG}: {message}")


def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / RUN_CONFIG
    for content, message in (
        (b"", "it is empty"), (b"seed: 1\n", "names no task"), (b"- a\n- b\n", "expected a mapping"),
        (b"just text", "expected a mapping"), (b"a: [1\nb: {", "is not YAML"), (b"\x00\x01", "is not YAML"),
        (b"\xff\xfe\x80\x81", "is not text"),
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            load_config(tmp_path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        if message in ("it is empty", "is not text"):
            assert str(caught.value).endswith(
                f"restore the run's configuration, or move {tmp_path} away to start over."
            )
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="cannot be read"):
        load_config(tmp_path)


def test_commands_say_what_is_wrong_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    save_config(RunConfig(), run)
    document = yaml.safe_load((run / RUN_CONFIG).read_text())
    document["learner"]["batch_size"] = [3]
    (run / RUN_CONFIG).write_text(yaml.safe_dump(document))
    for command in (
        ["train", "gym:CartPole-v1", "--mode", "inline", "--logdir", str(run)],
        ["replay", "inspect", str(run)],
        ["replay", "import", str(tmp_path), "--into", "x", "--like", str(run)],
    ):
        with pytest.raises(SystemExit) as left:
            main(command)
        error = capsys.readouterr().err
        assert left.value.code == 2, error
        assert f"{run / RUN_CONFIG}: learner.batch_size is [3] (a list), expected an integer." in error


def test_a_configuration_comes_back_from_its_file(tmp_path: Path) -> None:
    config = RunConfig(task="gym:CartPole-v1", seed=3)
    save_config(config, tmp_path)
    assert load_config(tmp_path) == config


@pytest.mark.parametrize("options", [
    [], ["--preset", "quick"], ["--size", "size12m"],
    ["--preset", "quick", "--learner.batch-size", "4", "--environment.image-size", "32", "48"],
])  # fmt: skip
def test_the_options_of_a_run_are_found_from_its_configuration(tmp_path: Path, options: list[str]) -> None:
    config = parse_train(["gym:CartPole-v1", *options])
    again = parse_train(["gym:CartPole-v1", *options_for(config)])
    assert (again.model, again.learner, again.environment) == (config.model, config.learner, config.environment)
    if options[:1] == ["--preset"]:
        assert options_for(config)[:2] == ["--preset", "quick"]


def test_a_look_whether_a_run_is_active_keeps_none_from_beginning(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    with (tmp_path / LOCK).open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        end = threading.Timer(0.03, looking.close)
        end.start()
        assert not claim_logdir(RunConfig(), tmp_path).continues
        end.join()


def test_a_directory_that_is_refused_is_let_go(tmp_path: Path) -> None:
    claim_logdir(RunConfig(), tmp_path / "taken")
    held = len(psutil.Process().open_files())
    for _ in range(2):
        with pytest.raises(
            ValueError, match=f"in use by process {os.getpid()}; stop it first, or use another --logdir"
        ):
            claim_logdir(RunConfig(), tmp_path / "taken")
    (tmp_path / "taken" / ".lock").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="in use by process"):
        claim_logdir(RunConfig(), tmp_path / "taken")
    save_config(RunConfig(seed=1), tmp_path / "other")
    with pytest.raises(ValueError, match="seed: 1 there, 0 now"):
        claim_logdir(RunConfig(), tmp_path / "other")
    assert len(psutil.Process().open_files()) == held
    claim = claim_logdir(RunConfig(seed=2), tmp_path / "new")
    assert not claim.continues and not (tmp_path / "new" / RUN_CONFIG).exists()  # should the start be refused
    claim.confirm()
    assert load_config(tmp_path / "new").seed == 2
    assert claim_logdir(RunConfig(seed=1), tmp_path / "other").continues
    (tmp_path / "odd" / ".lock").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"odd/\.lock cannot be opened: Is a directory\. Move it away"):
        claim_logdir(RunConfig(), tmp_path / "odd")


EXPLORING = ["gym:CartPole-v1", "--preset", "quick", "--exploration.disagreement", "2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--exploration.members", "1"], "exploration.members=1 must be at least 2"),
        (
            ["--exploration.disagreement", "-1"],
            "exploration.disagreement=-1 must not be negative; 0 turns exploration off",
        ),
        (
            ["--exploration.disagreement", "0", "--exploration.task", "0"],
            "exploration.disagreement=0 turns off; set that",
        ),
        (["--exploration.units", "many"], "'many' is not a whole number"),
        (["--actor.planner", "cem"], "actor.planner='cem' plans by the task's reward, .* omit one of them"),
    ],
)
def test_exploration_that_makes_no_sense_is_refused(options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_train([*EXPLORING, *options])


def test_exploration_is_off_unless_asked_for_and_part_of_the_options_of_a_run() -> None:
    assert parse_train(EXPLORING[:3]).exploration == RunConfig().exploration
    assert RunConfig().exploration.disagreement == 0
    config = parse_train([*EXPLORING, "--exploration.task", "0"])
    assert (config.exploration.disagreement, config.exploration.task) == (2, 0)
    assert config.exploration.shape(config.model) == (64, 2), "the sizes of the preset"
    assert options_for(config)[-4:] == ["--exploration.disagreement", "2.0", "--exploration.task", "0.0"]
