"""Runs whose environments are stepped together by their back end."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from deploy.wiring.config import load_config
from tests.integration.runs import checkpoints, command, differences, lines, run, state_of

if not find_spec("envpool"):
    pytest.skip("envpool is a dependency on Linux alone", allow_module_level=True)

INLINE = ["--mode", "inline", "--learner.train-ratio", "4", "--checkpoint-every", "10", "--log-every", "5"]
SAID = "envpool cannot restore the episodes that were open; new ones begin in their place."


def test_an_inline_run_repeats_and_continues_with_new_episodes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for logdir in (one, two):
        done = run(tmp_path, command("envpool:CartPole-v1", logdir, *INLINE, "--frames", "160"))
        assert done.returncode == 0, done.stdout + done.stderr
    assert lines(one / "metrics.jsonl") == lines(two / "metrics.jsonl")
    last = checkpoints(one)[-1]
    assert differences(state_of(one, last), state_of(two, last)) == []
    begun = lines(one / "scores.jsonl")

    again = run(tmp_path, command("envpool:CartPole-v1", one, *INLINE, "--frames", "320"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count(SAID) == 1
    scores = lines(one / "scores.jsonl")
    assert scores[: len(begun)] == begun and len(scores) > len(begun)
    # Not the episodes with which the run began: the first new one of each environment has a seed of its own.
    seeds = [score["seed"] for score in scores if score["seed"] >= 0]
    assert len(seeds) == len(set(seeds)) > 4

    # One by one from here on: the pool is about speed, not about results.
    alone = ["--environment.pool", "off", "--frames", "400"]
    single = run(tmp_path, command("envpool:CartPole-v1", one, *INLINE, *alone))
    assert single.returncode == 0, single.stdout + single.stderr
    assert lines(one / "scores.jsonl")[-1]["seed"] >= 0


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    logdir = tmp_path / "run"
    done = run(tmp_path, command("gym:CartPole-v1", logdir, *INLINE, "--frames", "120"))
    assert done.returncode == 0, done.stdout + done.stderr
    config = (logdir / "config.yaml").read_text()
    older = "".join(line for line in config.splitlines(keepends=True) if not line.startswith("  pool"))
    assert len(older.splitlines()) == len(config.splitlines()) - 2
    (logdir / "config.yaml").write_text(older)
    assert load_config(logdir).environment.pool == "auto"
    again = run(tmp_path, command("gym:CartPole-v1", logdir, *INLINE, "--frames", "200"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert SAID not in again.stdout


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    together = ["--environment.pool", "on"]
    for mode in ("inline", "local"):
        done = run(tmp_path, command("gym:CartPole-v1", tmp_path / mode, "--mode", mode, *together))
        assert done.returncode == 2
        assert "task 'gym:CartPole-v1' has no back end that steps its environments together" in done.stderr
    done = run(tmp_path, command("envpool:CartPole-v1", tmp_path / "b", *together, "--actor.isolation", "process"))
    assert done.returncode == 2
    assert "omit one of them" in done.stdout + done.stderr


@pytest.mark.slow
def test_a_local_run_steps_pools_in_its_actors_and_its_evaluator(tmp_path: Path) -> None:
    logdir = tmp_path / "run"
    options = ["--mode", "local", "--frames", "1500", "--evaluation.every", "20", "--evaluation.episodes", "3"]
    done = run(tmp_path, command("envpool:CartPole-v1", logdir, *options))
    assert done.returncode == 0, done.stdout + done.stderr
    scores = lines(logdir / "scores.jsonl")
    assert any(score["seed"] == -1 for score in scores if score["kind"] == "train")
    assert sum(score["kind"] == "eval" for score in scores) >= 3
