"""What the measures mean, and that measuring changes nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deploy.reports.health.verdicts import PITFALLS, verdicts
from deploy.wiring.config import HealthConfig
from deploy.wiring.task import replay_schema
from learner.config import LearnerConfig, OptimizerConfig
from learner.health.measure import OBSERVED, Health, calibration, episodes, finite, real_returns
from learner.health.windows import Windows
from learner.learner import Learner
from replay.memory.memory_store import MemoryStore
from tests.benchmarks.health_world import MemorylessRSSM
from tests.world_models.small_agent import CONFIG, CONTINUOUS, DISCRETE, IMAGE, INTEGER, VECTOR, build, random_values
from world_models.parameters import as_arrays
from world_models.space import Spaces

OBSERVATION: Spaces = {"vector": VECTOR}
ACTION: Spaces = {"steer": CONTINUOUS, "button": DISCRETE}


def learner(steps: int = 150, observation: Spaces = OBSERVATION, streams: int = 2, **model: Any) -> Learner:
    """One that has random steps in replay, in episodes of 40."""
    config = replace(CONFIG, **model)
    schema, rng = replay_schema(observation, ACTION, config), np.random.default_rng(0)
    store = MemoryStore(schema, length=5, capacity=1000, chunk_length=16)
    for stream in range(streams):
        rows = {key: np.zeros((steps, *field.shape), field.dtype) for key, field in schema.all.items()}
        at = np.arange(steps) % 40
        rows |= {"is_first": at == 0, "is_last": at == 39, "is_terminal": at == 39}
        rows["reward"] = rng.standard_normal(steps).astype(np.float32)
        store.append(stream, 0, rows | random_values(rng, observation | ACTION, steps))
    optimizer = OptimizerConfig(warmup=1, lr=1e-3)
    made = LearnerConfig(batch_size=4, batch_length=4, device="cpu", optimizer=optimizer)
    return Learner(build(observation, ACTION, config), made, store, seed=0, faults=Path("faults"))


@pytest.mark.parametrize("observation", [OBSERVATION, {"camera": IMAGE, "mode": INTEGER}], ids=["vector", "image"])
def test_every_part_is_measured(observation: Spaces) -> None:
    made = learner(observation=observation)
    made.update()
    report = json.loads(json.dumps(Health(made).report(on_policy=True), allow_nan=False))
    assert report["missing"] == {} and report["updates"] == 1 and report["warmup"] == 1
    curves = report["horizon"]["keys"]
    assert curves.keys() == {*observation, "reward"} and report["horizon"]["context"] == OBSERVED
    assert all(len(one["model"]) == len(one["still"]) == 3 and one["start"] >= 0 for one in curves.values())
    returns = report["returns"]
    assert len(returns["imagined"]) == len(returns["real"]) >= 16 and returns["episodes"] >= 4
    assert returns["imagined_mean"] == pytest.approx(np.mean(returns["imagined"]))
    assert len(report["reward"]["bins"]) == 10 and sum(one["count"] for one in report["reward"]["bins"]) > 500
    forgetting = report["forgetting"]
    assert forgetting["ratio"] == pytest.approx(forgetting["oldest"] / forgetting["newest"]) and forgetting["by_loss"]
    assert report["actions"]["ratio"] > 0 and report["memory"]["ratio"] > 0
    assert report["ends"] == [[0, 150], [1, 150]] and forgetting["rise"] is None
    assert 1.0 < report["largest_reward"] < 4.5  # of 20 from a standard normal distribution
    found = {one.name: one for one in verdicts([report], HealthConfig(warmups=0.0))}
    unknown = {name for name, one in found.items() if one.value is None}
    assert found.keys() == PITFALLS.keys() and unknown <= {"cost", "horizon"} and "cost" in unknown
    assert "horizon" not in unknown or found["horizon"].text.startswith("Repeating the last observation is closer")


def test_measuring_repeats_and_disturbs_nothing() -> None:
    with_reports, without = learner(), learner()
    torch.manual_seed(7)
    np.random.seed(7)
    for update in range(4):
        with_reports.update()
        report = Health(with_reports).report(on_policy=True)
        assert report == Health(with_reports).report(on_policy=True), update
    drawn = torch.rand(1).item(), np.random.random()
    torch.manual_seed(7)
    np.random.seed(7)
    for _ in range(4):
        without.update()
    assert drawn == (torch.rand(1).item(), np.random.random())
    for ours, theirs in (
        (with_reports.state(), without.state()),
        (as_arrays(with_reports.agent), as_arrays(without.agent)),
        *((with_reports.store.read(stream, 0, 150), without.store.read(stream, 0, 150)) for stream in (0, 1)),
    ):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            np.testing.assert_array_equal(value, theirs[key], key)
    assert with_reports.store.stats() == without.store.stats()


def test_what_cannot_be_measured_says_why() -> None:
    short = Health(learner(steps=40)).report(on_policy=True)
    assert set(short["missing"]) == {"horizon", "memory", "returns", "reward", "forgetting", "actions"}
    assert short["missing"]["returns"] == "Replay has 42 windows of 20 steps; at least 200 are needed."
    other = Health(learner()).report(on_policy=False)
    assert list(other["missing"]) == ["returns"] and other["returns"] is None
    made = learner()
    made.store.read = lambda *arguments: (_ for _ in ()).throw(ValueError("evicted"))  # type: ignore[method-assign]
    gone = Health(made).report(on_policy=True)
    assert set(gone["missing"]) == set(short["missing"]) and gone["horizon"] is None


def test_a_model_that_knows_no_action_is_not_sensitive() -> None:
    made = learner()
    with torch.no_grad():
        for value in made.agent.rssm.action_in.parameters():
            value.zero_()
    report = Health(made).report(on_policy=True)
    assert report["actions"]["ratio"] == 1.0
    assert Health(learner()).report(on_policy=True)["actions"]["ratio"] != 1.0


def test_a_model_that_carries_nothing_does_not_follow_from_its_state() -> None:
    made = learner(steps=400)
    made.agent.rssm.__class__ = MemorylessRSSM
    made.update()
    assert Health(made).report(on_policy=True)["horizon"]["state"] == pytest.approx(1.0, abs=1e-6)


def test_windows_that_are_alike_say_nothing_about_the_state() -> None:
    made = learner()
    read = made.store.read
    made.store.read = lambda *where: read(*where) | {"vector": np.ones((where[2], 3), np.float32)}  # type: ignore[method-assign]
    report = Health(made).report(on_policy=True)
    assert report["horizon"]["state"] is None and report["missing"].keys() == {"memory", "actions"}


def test_a_model_without_loss_or_with_errors_that_are_not_finite_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    made = learner()
    with monkeypatch.context() as patched:
        patched.setattr(made.agent, "model_loss", lambda losses: torch.full_like(losses["reward"], 0.0))
        report = Health(made).report(on_policy=True)
    assert report["missing"] == {"forgetting": "The model has no loss on the newest tenth of replay."}
    assert report["reward"] is not None
    made.agent.decoder.load_state_dict(
        {key: value * torch.nan for key, value in made.agent.decoder.state_dict().items()}
    )
    broken = json.loads(json.dumps(Health(made).report(on_policy=True), allow_nan=False))
    assert {broken["missing"][part] for part in ("memory", "actions", "forgetting")} == {
        "The model's errors are not finite."
    }


def test_forgetting_is_a_rise_on_the_same_windows() -> None:
    made = learner()
    first = Health(made).report(on_policy=True)
    for stream in (0, 1):  # what is the oldest tenth is now other data, that is harder
        rows = made.store.read(stream, 0, 150)
        fields = {key: rows[key] for key in made.store.schema.all}
        made.store.append(stream, 150, fields | {"reward": 50 * rows["reward"]})
    same = Health(made, [first]).report(on_policy=True)
    assert same["forgetting"]["rise"] == pytest.approx(1.0, abs=0.1)
    again = first["forgetting"]["again"]
    assert {tuple(key) for key in same["forgetting"]["again"]["windows"]} == {tuple(key) for key in again["windows"]}
    with torch.no_grad():
        for value in made.agent.decoder.parameters():
            value.add_(1.0)
    worse = Health(made, [first, same]).report(on_policy=True)
    assert worse["forgetting"]["rise"] > 1.5
    change = worse["forgetting"]["newest"] / same["forgetting"]["again"]["newest"]
    assert worse["forgetting"]["apart"] == pytest.approx(worse["forgetting"]["rise"] / change)
    assert worse["forgetting"]["again"] == same["forgetting"]["again"]  # the lowest stays what it is compared with
    gone = {**same["forgetting"], "again": again | {"windows": [[9, n] for n in range(len(again["windows"]))]}}
    anew = Health(made, [same | {"forgetting": gone}]).report(on_policy=True)["forgetting"]
    assert anew["rise"] is None and all(stream in (0, 1) for stream, _ in anew["again"]["windows"])
    for damaged in ({}, {"forgetting": None}, {"forgetting": {"again": {"steps": 20, "windows": 3}}, "ends": 3}):
        assert Health(made, [damaged]).report(on_policy=True)["forgetting"]["rise"] is None


def test_an_untrained_reward_head_imagines_no_return() -> None:
    report = Health(learner()).report(on_policy=True)
    np.testing.assert_allclose(report["returns"]["imagined"], 0, atol=1e-5)
    assert report["reward"]["error"] == pytest.approx(
        sum(abs(one["actual"]) * one["count"] for one in report["reward"]["bins"])
        / sum(one["count"] for one in report["reward"]["bins"])
    )


def test_the_largest_reward_is_that_of_all_batches_and_is_kept() -> None:
    made, other = learner(), learner()
    assert Health(made).report(on_policy=True)["largest_reward"] == 0.0
    for _ in range(3):
        made.update()
    assert 2.0 < made.largest_reward < 4.5
    other.load(made.state())
    assert Health(other).report(on_policy=True)["largest_reward"] == made.largest_reward


def test_real_returns_end_with_the_episode() -> None:
    rows = {
        "reward": np.array([[9.0, 1.0, 2.0, 4.0, 8.0]] * 4, np.float32),
        "is_last": np.zeros((4, 5), bool), "is_terminal": np.zeros((4, 5), bool),
    }  # fmt: skip
    rows["is_last"][1, 2] = rows["is_terminal"][1, 2] = True  # a terminal step after two
    rows["is_last"][2, 2] = True  # a time limit there: what would have followed is unknown
    rows["is_last"][3, 0] = rows["is_terminal"][3, 0] = True  # it starts at an end
    returns, known = real_returns(rows, 0, 4, 0.5)
    np.testing.assert_allclose(returns[:2], [1 + 2 / 2 + 4 / 4 + 8 / 8, 1 + 2 / 2])
    assert known.tolist() == [True, True, False, False]
    rows["is_last"][2, :] = [False, False, False, False, True]  # cut right at the horizon
    assert real_returns(rows, 0, 4, 0.5)[1].tolist() == [True, True, True, False]


def test_episodes_of_the_start_states() -> None:
    first = np.zeros((3, 6), bool)
    first[:, 0] = True  # every window's first column is marked as one
    first[1, 2] = True
    windows = Windows({"is_first": first}, np.array([[0, 0], [0, 5], [1, 0]]))
    assert episodes(windows, 3, np.array([True, True, True])) == 3
    assert episodes(windows, 3, np.array([True, False, True])) == 2
    assert episodes(windows, 1, np.array([True, True, False])) == 1  # both before step 7


def test_calibration_compares_means_not_single_rewards() -> None:
    noise = np.tile([-1.0, 1.0], 500)
    predicted = np.repeat(np.arange(10.0), 100)
    fair = calibration(predicted, predicted + noise)
    assert fair["error"] == 0.0 and [one["count"] for one in fair["bins"]] == [100] * 10
    assert calibration(predicted, predicted - 0.5)["error"] == pytest.approx(0.5)
    assert calibration(predicted, 2 * predicted)["error"] == pytest.approx(4.5)


def test_numbers_that_are_not_finite_become_null() -> None:
    assert finite({"a": [1.0, float("nan")], "b": {"c": float("inf"), "d": "text"}}) == {
        "a": [1.0, None],
        "b": {"c": None, "d": "text"},
    }
