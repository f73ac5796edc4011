"""Runs that start with the parameters of another run: whole, in parts, refused, and continued without the other."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from deploy.commands.train import parse_train
from deploy.inline_run import InlineRun
from deploy.wiring.claim import _LOCKS
from deploy.wiring.transfer import read_source
from learner.checkpoint import read_arrays
from tests.integration.runs import TINY, checkpoints, command, differences, lines, run, state_of
from world_models.checkpoint_files import WEIGHTS
from world_models.dreamer.parts import part_of
from world_models.genie.config import GenieConfig
from world_models.model_document import ModelDocument

TASK = "gym:CartPole-v1"
RATIO = ["--mode", "inline", "--learner.train-ratio", "4", "--checkpoint-every", "10", "--keep-checkpoints", "9",
         "--log-every", "5", "--report-every", "0", "--learner.optimizer.warmup", "0"]  # fmt: skip
WORLD = {"encoder", "rssm", "decoder", "reward", "continuation"}


def made(logdir: Path, *options: str, frames: int = 200, task: str = TASK) -> InlineRun:
    config = parse_train([task, *TINY, *RATIO, "--frames", str(frames), "--logdir", str(logdir), *options])
    return InlineRun(config, logdir)


def train(logdir: Path, *options: str, frames: int = 200, task: str = TASK) -> InlineRun:
    whole = made(logdir, *options, frames=frames, task=task)
    try:
        assert whole.run() == "done"
    finally:
        _LOCKS.pop(logdir).close()
    return whole


def begun(logdir: Path, *options: str) -> dict[str, np.ndarray]:
    """The agent of a run that has not updated it: fewer frames than training needs."""
    train(logdir, *options, frames=8)
    return read_arrays(logdir / "checkpoints" / f"{0:010d}" / WEIGHTS)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    logdir = tmp_path_factory.mktemp("source") / "run"
    train(logdir, "--seed", "3")
    return logdir


def newest(logdir: Path) -> dict[str, np.ndarray]:
    return read_arrays(logdir / "checkpoints" / f"{checkpoints(logdir)[-1]:010d}" / WEIGHTS)


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        ([], WORLD),
        (["--init-parts", "all"], {*WORLD, "policy", "value"}),
        (["--init-parts", "rssm", "value"], {"rssm", "value"}),
    ],
)
def test_the_parts_that_are_named_are_taken_and_the_others_are_fresh(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str], names: list[str], taken: set[str]
) -> None:
    theirs, fresh = newest(source), begun(tmp_path / "scratch")
    own = begun(tmp_path / "run", "--init-from", str(source), *names)
    for name, value in own.items():
        assert np.array_equal(value, (theirs if part_of(name) in taken else fresh)[name]), name
    assert own["slow_count"] == 0 < theirs["slow_count"], "counters are new"
    different = {part_of(name) for name in own if not np.array_equal(theirs[name], fresh[name])}
    assert different >= {*WORLD, "policy", "value"}, "or nothing was shown"
    training = read_arrays(tmp_path / "run" / "checkpoints" / f"{0:010d}" / "training.safetensors")
    assert training["optimizer.count"] == 0 and not any(training[key].any() for key in training if ".mu." in key)

    said = read_source(tmp_path / "run")
    number = checkpoints(source)[-1]
    assert said["checkpoint"] == str(source / "checkpoints" / f"{number:010d}") and said["updates"] == number
    assert set(said["parts"]) == taken and said["task"] == TASK  # type: ignore[call-overload]
    assert not set(said["fresh"]) & taken  # type: ignore[call-overload]
    (note,) = [line for line in capsys.readouterr().out.splitlines() if "Starts with" in line]
    assert all(part in note.partition(" of ")[0] for part in taken)
    fresh_there = note.partition("; fresh: ")[2]
    assert ("policy" in fresh_there) == ("policy" not in taken)
    assert fresh_there.endswith("counters, optimizer and replay."), "they are never taken"


def test_the_policy_that_acts_first_is_the_one_that_was_taken(tmp_path: Path, source: Path) -> None:
    options = ["--init-from", str(source), "--init-parts", "all", "--actor.random-steps", "0"]
    run_ = made(tmp_path, *options)
    assert run_.start.startswith("Starts with encoder, rssm")
    run_.config = run_.config.__class__(**{**vars(run_.config), "frames": 8})
    try:
        run_.run()
    finally:
        _LOCKS.pop(tmp_path).close()
    acting = {name: value.numpy() for name, value in run_.acting.state_dict().items()}
    assert all(np.array_equal(value, newest(source)[name]) for name, value in acting.items())


def test_a_run_is_continued_exactly_without_the_other_one(tmp_path: Path, source: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(source, other)
    options = ["--init-from", str(other), "--init-parts", "all"]
    straight, continued = tmp_path / "straight", tmp_path / "continued"
    train(straight, *options, frames=320)
    train(continued, *options, frames=200)
    shutil.rmtree(other)
    before = checkpoints(continued)[-1]
    train(continued, *options, frames=320)
    last = checkpoints(straight)[-1]
    assert before < last == checkpoints(continued)[-1]
    assert differences(state_of(straight, last), state_of(continued, last)) == []
    assert lines(straight / "metrics.jsonl") == lines(continued / "metrics.jsonl")


def test_a_run_without_a_checkpoint_yet_starts_over_with_the_same_parameters(tmp_path: Path, source: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(source, other)
    first = begun(tmp_path / "run", "--init-from", str(other))
    shutil.rmtree(other)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    again = begun(tmp_path / "run", "--init-from", str(other))
    assert differences(first, again) == []


def test_sizes_are_those_of_the_other_run_unless_told_otherwise(tmp_path: Path, source: Path) -> None:
    options = [TASK, "--preset", "quick", "--logdir", str(tmp_path / "run"), "--init-from", str(source)]
    config = parse_train(options)
    assert (config.model.rssm.deter, config.model.encoder.units, config.model.reward.bins) == (16, 8, 15)
    assert config.model.policy.units == 64, "the preset's: it is not taken"
    assert config.init_from == str(source) and config.model.imagination_length == 15
    assert parse_train([*options, "--size", "size1m"]).model.rssm.deter == 512
    assert parse_train([*options, "--model.rssm.hidden", "9"]).model.rssm.hidden == 9


@pytest.mark.parametrize("mode", ["inline", "local"])
def test_parts_that_do_not_fit_are_named_with_both_shapes(tmp_path: Path, source: Path, mode: str) -> None:
    logdir = tmp_path / "run"
    options = ["--mode", mode, "--frames", "40", "--init-from", str(source)]
    refused = run(tmp_path, command("gym:Pendulum-v1", logdir, *options))
    assert refused.returncode == 2, refused.stdout + refused.stderr
    said = refused.stderr
    assert "  encoder.mlp.0.linear.weight: [8, 4] there, [8, 3] here" in said
    assert "  rssm.action_in.linear.weight: [8, 2] there, [8, 1] here" in said
    assert "  decoder.vector_out.key_vector.weight: [4, 8] there, [3, 8] here" in said
    assert said.count(" there, ") == 4, "with the bias of the decoder, all that differs"
    assert "Leave out encoder, rssm and decoder: --init-parts reward continuation." in said
    assert "Without --size" not in said, "none was given"
    assert "Traceback" not in said and not (logdir / "config.yaml").exists() and not (logdir / "initial").exists()


def test_more_reward_heads_than_there_are_stay_fresh(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = ["--model.reward-heads", "3"]
    fresh, theirs = begun(tmp_path / "scratch", *heads), newest(source)
    own = begun(tmp_path / "run", *heads, "--init-from", str(source))
    for name, value in own.items():
        if part_of(name) == "reward":
            assert np.array_equal(value, (theirs if name in theirs else fresh)[name]), name
    assert {name.partition(".")[0] for name in own if part_of(name) == "reward"} == {"reward", "more_rewards"}
    assert "; fresh: policy, value, 2 more reward heads, counters, optimizer" in capsys.readouterr().out
    assert read_source(tmp_path / "run")["fresh_reward_heads"] == 2
    with pytest.raises(ValueError, match=r"more_rewards.*absent here\n.* Without --size and --model\.\* the parts"):
        made(tmp_path / "one", "--model.reward-heads", "1", "--init-from", str(tmp_path / "run"))
    _LOCKS.pop(tmp_path / "one").close()


def test_a_run_does_not_start_with_itself(source: Path) -> None:
    checkpoint = source / "checkpoints" / f"{checkpoints(source)[-1]:010d}"
    for start in (source, checkpoint, source / ".." / source.name):
        with pytest.raises(ValueError, match="is the run in --logdir .* itself. Choose another --logdir"):
            parse_train([TASK, *TINY, "--logdir", str(source), "--init-from", str(start)])


def test_an_intact_checkpoint_is_named_in_place_of_a_damaged_one(tmp_path: Path, source: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(source, other)
    *_, before, last = sorted((other / "checkpoints").glob("[0-9]*"))
    damaged = last / WEIGHTS
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x7f")
    for name in (other, last):
        with pytest.raises(ValueError, match=rf"is damaged: .* Start with .*: --init-from {before}$"):
            made(tmp_path / "run", "--init-from", str(name))
        _LOCKS.pop(tmp_path / "run").close()
    (last / "config.json").write_text("{")
    for one in sorted((other / "checkpoints").glob("[0-9]*"))[:-1]:
        shutil.rmtree(one)
    with pytest.raises(ValueError, match=r"config\.json is damaged: .* No other numbered checkpoint .* another run"):
        parse_train([TASK, *TINY, "--logdir", str(tmp_path / "run"), "--init-from", str(other)])


def test_other_parts_are_taken_by_a_task_that_has_other_observations_and_actions(tmp_path: Path, source: Path) -> None:
    options = ["--init-from", str(source), "--init-parts", "continuation", "reward"]
    whole = train(tmp_path, *options, frames=80, task="gym:Pendulum-v1")
    assert whole.start.startswith(f"Starts with reward, continuation of {source}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--init-parts", "all"], "says what is taken from init_from, which is empty"),
        (["--init-from", "nowhere"], "nowhere is no directory; give a run directory or one of its checkpoints"),
        (["--init-from", "{source}", "--init-parts", "actor"], "'actor'"),
        (["--init-from", "{source}/checkpoints/best"], "has no decoder, reward and continuation; nothing is loaded. "
         "Take what it has, --init-parts encoder rssm, or name a run"),
        (["--init-from", "{world}"], "holds a model of family 'genie'; give a run of nexus train"),
        (["--init-from", "{damaged}"], "damaged"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(tmp_path: Path, source: Path, options: list[str], message: str) -> None:
    names = {"source": tmp_path / "source", "world": tmp_path / "world", "damaged": tmp_path / "damaged"}
    folder = f"{checkpoints(source)[-1]:010d}"
    shutil.copytree(source, names["source"])
    best = names["source"] / "checkpoints" / "best"
    shutil.copytree(source / "checkpoints" / folder, best)
    (best / "manifest.json").unlink()
    kept = {name: value for name, value in newest(source).items() if part_of(name) in ("encoder", "rssm", "policy")}
    save_file(kept, best / WEIGHTS)
    shutil.copytree(source / "checkpoints" / folder, names["world"])
    document = json.loads((names["world"] / "config.json").read_text())
    (names["world"] / "config.json").write_text(json.dumps(document | ModelDocument(config=GenieConfig()).to_json()))
    shutil.copytree(source / "checkpoints" / folder, names["damaged"])
    with (names["damaged"] / WEIGHTS).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    given = [option.format(**names) for option in options]
    logdir = tmp_path / "run"
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        made(logdir, *given)
    assert not (logdir / "initial").exists()
    if held := _LOCKS.pop(logdir, None):
        held.close()


@pytest.mark.slow
def test_a_local_run_starts_with_them_and_continues_without_the_other(tmp_path: Path, source: Path) -> None:
    logdir, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(source, other)
    options = ["--mode", "local", "--learner.train-ratio", "4", "--log-every", "5", "--report-every", "0",
               "--learner.optimizer.lr", "0", "--init-from", str(other), "--init-parts", "all"]  # fmt: skip
    done = run(tmp_path, command(TASK, logdir, *options, "--frames", "300"), timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Starts with encoder, rssm, decoder, reward, continuation, policy, value of {other}" in done.stdout
    shutil.rmtree(other)
    first = checkpoints(logdir)[-1]
    done = run(tmp_path, command(TASK, logdir, *options, "--frames", "500"), timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Starts with" not in done.stdout and checkpoints(logdir)[-1] > first > 0
    for name, value in newest(logdir).items():  # nothing is learned at this rate
        if part_of(name) in {*WORLD, "policy"}:
            assert np.array_equal(value, newest(source)[name]), name
