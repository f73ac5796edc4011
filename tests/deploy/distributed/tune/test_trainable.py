"""Runs as trials of Ray Tune: a sweep, checkpoints, other values in a copied run, failures, and no process left."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from actors.policy import load_policy
from deploy.wiring.config import RunConfig, load_config
from deploy.wiring.config_file import save_config
from deploy.wiring.fields import with_fields
from tests.contracts.ray_stores import started
from tests.integration.runs import lines, wait_for

pytest.importorskip("ray.tune", reason='needs ray.tune: pip install "nexus-worlds[tune]"')
TASK = "gym:CartPole-v1"
TINY = {
    "model.rssm": {"deter": 16, "hidden": 8, "stoch": 4, "classes": 4},
    "model.encoder": {"units": 8, "depth": 2}, "model.decoder": {"units": 8, "depth": 2}, "model.reward.units": 8,
    "model.continuation.units": 8, "model.policy.units": 8, "model.value.units": 8, "model.imagination_length": 3,
    "learner.batch_size": 4, "learner.batch_length": 8, "learner.train_ratio": 4.0, "learner.optimizer.warmup": 0,
    "learner.threads": 1, "actor.environments": 4, "actor.random_steps": 40, "evaluation.every": 0, "log_every": 5,
}  # fmt: skip
BROKEN = """
import gymnasium, numpy as np

class Broken(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}
    def step(self, action):
        return None, 0.0, False, False, {}

gymnasium.register(id="Broken-v0", entry_point=Broken)
"""


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Makes a trial with these parameters in this process, as Tune does in another; all are stopped at the end."""
    from deploy.distributed.tune import trainable

    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path / "trials"))
    monkeypatch.chdir(tmp_path)
    made = []

    def make(task: str = TASK, **parameters: Any) -> Any:
        made.append(trainable(task, preset="quick", overrides=TINY)(parameters))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_a_sweep_over_two_fields(tmp_path: Path) -> None:
    from ray import tune

    from deploy.distributed.tune import trainable

    started()
    space = {"learner.train_ratio": [2.0, 4.0], "learner.optimizer.lr": [1e-3, 1e-4]}
    results = tune.Tuner(
        trainable(TASK, preset="quick", overrides=TINY),
        param_space={name: tune.grid_search(values) for name, values in space.items()},
        tune_config=tune.TuneConfig(metric="score", mode="max", reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(tmp_path), stop={"frames": 150}, verbose=0),
    ).fit()
    assert not results.errors
    seen = set()
    for result in (results[number] for number in range(len(results))):
        assert result.checkpoint and result.config and result.metrics
        config = load_config(Path(result.checkpoint.path))
        values = config.learner.train_ratio, config.learner.optimizer.lr
        assert values == tuple(result.config[name] for name in space)
        seen.add(values)
        assert config.mode == "inline" and config.learner.device == "cpu"
        assert result.metrics["frames"] >= 150 and result.metrics["updates"] > 0 and result.metrics["score"] > 0
        assert result.metrics["train/loss/total"] > 0
    assert len(seen) == 4
    best = results.get_best_result()
    assert best.checkpoint
    assert load_policy(best.checkpoint.path)(np.zeros(4, np.float32)) in (0, 1)


@pytest.mark.slow
def test_population_based_training_continues_the_better_run_with_other_values(tmp_path: Path) -> None:
    from ray import tune
    from ray.tune.schedulers import PopulationBasedTraining

    from deploy.distributed.tune import trainable

    started()
    scheduler = PopulationBasedTraining(
        time_attr="frames", perturbation_interval=200, quantile_fraction=0.5, synch=True,
        hyperparam_mutations={"learner.optimizer.lr": [1e-3, 1e-4]},
        custom_explore_fn=lambda values: values | {"learner.optimizer.lr": 5e-4},
    )  # fmt: skip
    results = tune.Tuner(
        trainable(TASK, preset="quick", overrides=TINY),
        param_space={"learner.optimizer.lr": tune.grid_search([1e-3, 1e-4])},
        tune_config=tune.TuneConfig(metric="score", mode="max", scheduler=scheduler, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(tmp_path), stop={"frames": 380}, verbose=0),
    ).fit()
    assert not results.errors
    folders = [Path(result.checkpoint.path) for result in (results[0], results[1]) if result.checkpoint]
    rate = {load_config(folder).learner.optimizer.lr: folder for folder in folders}
    copy = rates(rate.pop(5e-4))
    ((original, folder),) = rate.items()
    assert list(copy.values())[0] == original and list(copy.values())[-1] == 5e-4
    assert len({updates for updates, value in copy.items() if value == rates(folder).get(updates)}) >= 1


def until(trial: Any, updates: int) -> dict[str, Any]:
    """The first result with as many updates."""
    return wait_for(lambda: (result := trial.train())["updates"] >= updates and result, f"update {updates}")


def rates(logdir: Path) -> dict[int, float]:
    return {
        line["updates"]: round(line["train/optimizer/learning_rate"], 9) for line in lines(logdir / "metrics.jsonl")
    }


def test_a_checkpoint_continues_in_its_trial_and_in_another_with_other_values(trial: Callable[..., Any]) -> None:
    one = trial(**{"learner.optimizer.lr": 1e-3})
    before = until(one, 10)
    saved = one.save()
    copied = Path(saved.checkpoint.path)
    assert load_config(copied).learner.optimizer.lr == 1e-3
    assert [path.name for path in (copied / "checkpoints").glob("[0-9]*")] != []
    assert set(rates(copied).values()) == {1e-3}

    other = trial(**{"learner.optimizer.lr": 1e-4})
    other.restore(saved)
    again = Path(other.logdir) / "run"
    assert load_config(again).learner.optimizer.lr == 1e-4
    last = max(rates(copied))
    one.run.start(), other.run.start()  # at once, to be done sooner
    for run, rate in ((one, 1e-3), (other, 1e-4)):
        result = until(run, last + 5)
        assert result["frames"] > before["frames"] and result["training_iteration"] > before["training_iteration"]
        now = rates(Path(run.logdir) / "run")
        assert now.items() >= rates(copied).items(), "the log goes on"
        assert {value for updates, value in now.items() if updates > last} == {rate}


def test_a_checkpoint_does_not_continue_with_other_networks(tmp_path: Path, trial: Callable[..., Any]) -> None:
    one = trial()
    (tmp_path / "copy").mkdir()
    save_config(RunConfig(), tmp_path / "copy")
    with pytest.raises(ValueError, match="cannot be continued") as caught:
        one.load_checkpoint(str(tmp_path / "copy"))
    assert "model.rssm.deter: 8192 there, 16 here" in str(caught.value)
    assert "model.entropy" not in str(caught.value) and "learner." not in str(caught.value)


@pytest.mark.parametrize(
    ("there", "here", "said"),
    [
        ({"model.reward_heads": 3}, {}, "model.reward_heads: 3 there, 1 here"),
        ({"exploration.members": 4}, {}, "exploration.members: 4 there, 8 here"),
        ({}, {"anchor.weight": 0.5}, "anchor.weight: 0.0 there, 0.5 here"),
        ({"exploration.disagreement": 1.0}, {}, "exploration.disagreement: 1.0 there, 0.0 here"),
        ({"anchor.weight": 0.1}, {"anchor.weight": 0.5}, ""),
        ({"exploration.disagreement": 1.0}, {"exploration.disagreement": 9.0, "exploration.task": 0.5}, ""),
    ],
)
def test_what_checkpoints_hold_for_a_weight_must_be_there(there: Any, here: Any, said: str) -> None:
    from deploy.distributed.tune.trainable import _require_same

    with pytest.raises(ValueError, match=said) if said else nullcontext():
        _require_same(with_fields(RunConfig(), there), with_fields(RunConfig(), here))


def test_what_ends_a_run_reaches_tune(tmp_path: Path, trial: Callable[..., Any]) -> None:
    (tmp_path / "broken_module.py").write_text(BROKEN)
    one = trial("gym:broken_module:Broken-v0")
    with pytest.raises(RuntimeError, match="exit code 1") as caught:
        wait_for(lambda: one.train()["done"], "the run to fail")
    assert "broken_module.py, line 9" in str(caught.value) and "float32 array of shape (2,)" in str(caught.value)


def test_a_finished_run_ends_its_trial_with_a_checkpoint(trial: Callable[..., Any]) -> None:
    one = trial(frames=60, **{"learner.train_ratio": 0.0})
    result = wait_for(lambda: (result := one.train())["done"] and result, "the run to end")
    assert result["should_checkpoint"] and result["episodes"] >= 0
    copied = Path(one.save().checkpoint.path)
    assert json.loads((copied / "evaluation.json").read_text())["trained"]["scores"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learner.train_ration": 3}, "the nearest: learner.train_ratio"),
        ({"logdir": "x"}, "are set by the trainable"),
        ({"replay.store": "redis://host"}, "must be its own"),
        ({"replay.directory": "shared", "replay.store": "disk"}, "must be its own"),
    ],
)
def test_wrong_values_are_refused_where_they_are_given(trial: Callable[..., Any], values: Any, words: str) -> None:
    from deploy.distributed.tune import trainable

    with pytest.raises(ValueError, match=words):
        trainable(TASK, overrides=values)
    with pytest.raises(ValueError, match=words):
        trial(**values)


PARENT = """
import os, subprocess, sys
command = [sys.executable, "-m", "deploy.distributed.trial_process", str(os.getpid()), "train", "gym:CartPole-v1"]
command += ["--preset", "quick", "--mode", "inline", "--logdir", "run"]
run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
print(run.pid, flush=True)
run.wait(300)
"""


def test_a_run_does_not_outlive_its_trial(tmp_path: Path) -> None:
    logdir = tmp_path / "run"
    env = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[4]))
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        run = psutil.Process(int(parent.stdout.readline()))
        wait_for((logdir / "config.yaml").exists, "the run to begin")
        parent.send_signal(signal.SIGKILL)
    wait_for(lambda: not run.is_running(), "the run to end")
    assert [*(logdir / "checkpoints").glob("[0-9]*")], "it has saved"


def test_a_worker_of_ray_makes_a_registered_environment(tmp_path: Path) -> None:
    import ray

    started()
    (tmp_path / "registering.py").write_text(
        "import gymnasium\nfrom ray.tune import register_env\n"
        "register_env('cart', lambda config: gymnasium.make(config['id']))\n"
    )

    def score() -> float:
        from actors.config import EnvironmentConfig
        from actors.envs import make

        with chdir(tmp_path):
            environment = make("rllib:registering:cart", EnvironmentConfig(env_config='{"id": "CartPole-v1"}'))
        environment.reset(0)
        return environment.step({"action": np.array(0, np.int32)}).reward

    assert ray.get(ray.remote(num_cpus=0)(score).remote(), timeout=200) == 1.0
