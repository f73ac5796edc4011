"""`nexus plan` scores a planner beside the model's own actor and random actions, and says what does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from deploy.commands.plan import run
from learner.checkpoint import Checkpoints
from tests.actors.small_world import saved_genie
from tests.world_models.jepa import small_vjepa2_ac
from tests.world_models.latent import small as small_latent
from tests.world_models.small_agent import CONFIG, CONTINUOUS, VECTOR, build
from world_models.dreamer.acting import ActingModel
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays
from world_models.simple.world_model import SimpleWorldModel
from world_models.space import Space

TASK = "gym:actors.envs.point_reach:PointReach-v0"  # 8 steps an episode
PENDULUM = {"obs_dim": 3, "action_dim": 1, "latent_dim": 4, "hidden_dim": 8, "action_low": -2.0, "action_high": 2.0}
FEW = ["--samples", "4", "--iterations", "1", "--horizon", "2", "--episodes", "2"]


def saved_dreamer(folder: Path) -> Path:
    """A run's checkpoints: a whole agent, and the acting part of it as `best`."""
    picture = Space(dtype=VECTOR.dtype, shape=(2,))
    agent = build({"position": picture}, {"action": CONTINUOUS})
    document = ModelDocument(
        task=TASK, observation=agent.observation_space, action=agent.action_space, config=CONFIG
    ).to_json()  # fmt: skip
    checkpoints = Checkpoints.of(folder)
    checkpoints.save(7, {"model": as_arrays(agent)}, {"config": document})
    checkpoints.save("best", {"model": as_arrays(ActingModel.sharing(agent))}, {"config": document})
    return folder


def test_a_planner_is_scored_beside_actor_and_random(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = saved_dreamer(tmp_path)
    assert run([str(folder), "--planner", "cem", *FEW]) == 0
    printed = capsys.readouterr().out
    outcome: dict[str, Any] = json.loads((folder / "plan-cem.json").read_text())
    for name, actions in (("planned", "planned"), ("actor", "sampled"), ("random", "random")):
        assert f"  {name + ':':<8} mean" in printed
        player = outcome[name]
        assert len(player["scores"]) == 2 and player["protocol"]["actions"] == actions
        assert player["metrics"]["is_success"] == [0, 0] or set(player["metrics"]["is_success"]) <= {0, 1}
        assert player["seconds_per_action"] > 0
    assert "is_success: mean" in printed and "95 % interval" in printed
    assert outcome["planned"]["protocol"]["seeds"] == outcome["random"]["protocol"]["seeds"]
    assert outcome["planner"] | {"name": "cem", "horizon": 2, "samples": 4} == outcome["planner"]
    assert outcome["checkpoint"].endswith("0000000007"), "best has no reward"


def test_a_simple_model_is_planned_on_the_task_it_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SimpleWorldModel(PENDULUM | {"obs_dim": 2, "action_dim": 2})
    model.save(tmp_path, task="")
    with pytest.raises(ValueError, match=r"names no task; name it, e.g. --task gym:Pendulum-v1"):
        run([str(tmp_path), *FEW])
    with pytest.raises(ValueError, match=r"The model sees 'vector' of width 2, but gym:Pendulum-v1 has vector \(3\)"):
        run([str(tmp_path), "--task", "gym:Pendulum-v1", *FEW])


def test_a_latent_world_is_planned_towards_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_latent.saved(tmp_path, history=2)
    assert run([str(folder), "--task", TASK, "--goal", "goal", "--deadline", "8", "--block", "4", *FEW]) == 0
    assert "cem towards the picture in 'goal'" in capsys.readouterr().out
    with pytest.raises(ValueError, match="latent_world model predicts no rewards; .* e.g. --goal goal"):
        run([str(folder), "--task", TASK, *FEW])


@pytest.mark.parametrize("state", [0, 2])
def test_a_vjepa2_ac_is_planned_towards_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state: int
) -> None:
    folder = small_vjepa2_ac.saved(tmp_path, state=state)
    assert run([str(folder), "--task", TASK, "--goal", "goal", "--deadline", "8", "--block", "4", *FEW]) == 0
    printed = capsys.readouterr().out
    assert "cem towards the picture in 'goal'" in printed and printed.count("is_success: mean") == 2
    outcome: dict[str, Any] = json.loads((folder / "plan-cem.json").read_text())
    assert outcome["cost"] == {"goal": "goal", "every_step": False, "deadline": 8} and "actor" not in outcome
    assert len(outcome["planned"]["metrics"]["is_success"]) == 2


@pytest.mark.parametrize(
    ("state", "arguments", "message"),
    [
        (0, ["--goal", "goal"], "names no task; name it, e.g. --task"),
        (0, ["--task", TASK], "vjepa2_ac model predicts no rewards; .* e.g. --goal goal"),
        (0, ["--task", TASK, "--goal", "gaol"], "shows no 'gaol'; it shows goal, image, position"),
        (3, ["--task", TASK, "--goal", "goal"], "takes states of 3 numbers, but the vectors of the observation have 2"),
        (0, ["--task", "gym:CartPole-v1", "--goal", "vector"], "replaces the one picture .* sees vector"),
    ],
)
def test_what_does_not_fit_a_vjepa2_ac_is_said(tmp_path: Path, state: int, arguments: list[str], message: str) -> None:
    folder = small_vjepa2_ac.saved(tmp_path, state=state)
    with pytest.raises(ValueError, match=message):
        run([str(folder), *arguments, *FEW])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--planner", "random_shooting", "--iterations", "3"], "random_shooting has no iterations; it has horizon"),
        (["--goal", "goal"], "--goal goal replaces the one picture that the model sees, but it sees position"),
        (["--planner", "magic"], "'magic' is not one of"),
        (["--every-step"], "--every-step is for plans towards a goal; name the goal too"),
        (["--task", "gym:CartPole-v1"], "The model sees 'position' of width 2, but gym:CartPole-v1 has"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, arguments: list[str], message: str) -> None:
    folder = saved_dreamer(tmp_path)
    with pytest.raises(ValueError, match=message):
        run([str(folder), *arguments, "--episodes", "1"])


def test_the_acting_part_alone_is_refused(tmp_path: Path) -> None:
    folder = saved_dreamer(tmp_path) / "checkpoints" / "best"
    with pytest.raises(ValueError, match=r"nothing is loaded\. Missing: continuation.* best has the acting part"):
        run([str(folder), *FEW])


def test_a_genie_is_planned_by_the_actions_it_was_trained_with(tmp_path: Path) -> None:
    real, latent = saved_genie(tmp_path / "real", real_actions=2), saved_genie(tmp_path / "latent")
    towards = ["--task", TASK, "--goal", "goal", "--deadline", "8", "--alone", *FEW]
    assert run([str(real), "--planner", "cem", *towards]) == 0
    outcome: dict[str, Any] = json.loads((real / "plan-cem.json").read_text())
    assert len(outcome["planned"]["scores"]) == 2 and outcome["planned"]["protocol"]["actions"] == "planned"
    with pytest.raises(ValueError, match="have 2 numbers, but this Genie has latent actions, 3; plan on the task"):
        run([str(latent), *towards])
    with pytest.raises(ValueError, match="no gradients go; plan with cem or mppi"):
        run([str(real), "--planner", "gradient", *towards])
