"""Updates of Genie's models: they lower the loss, continue exactly, and never see recorded actions."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from learner.datasets.dataset import Example
from learner.pretrain.config import TrainingConfig
from learner.pretrain.objectives import objective
from learner.pretrain.pretrainer import Pretrainer
from learner.schedules import Schedule
from tests.world_models.genie.small import small_config

TRAINING = TrainingConfig(
    batch_size=4, updates=8, device="cpu", lr=Schedule(kind="cosine", start=1e-3, top=5e-3, end=1e-4, warmup=2)
)


def configs() -> list[Any]:
    whole = small_config()
    return [
        whole.tokenizer,
        replace(whole.tokenizer, quantizer=small_config(kind="fsq").tokenizer.quantizer),
        whole.latent_action,
        whole,
        small_config(real_actions=3),
    ]


def named(config: Any) -> str:
    return f"{config.family}{'-real' if getattr(config, 'real_actions', 0) else ''}"


def batch(number: int, rows: int = 4) -> Example:
    rng = np.random.default_rng(number)
    return {
        "frames": rng.integers(0, 256, (rows, 4, 8, 8, 3), dtype=np.uint8),
        "actions": np.eye(3, dtype=np.float32)[rng.integers(3, size=(rows, 3))],
    }


def trainer(config: Any, training: TrainingConfig = TRAINING) -> Pretrainer:
    torch.manual_seed(0)
    return Pretrainer(objective(config), training, seed=0)


@pytest.mark.parametrize("config", configs(), ids=named)
def test_a_run_that_continues_is_the_same_run(config: Any) -> None:
    whole = trainer(config)
    for number in range(6):
        whole.update(batch(number))
        if number == 2:
            arrays = {key: value.numpy().copy() for key, value in whole.model.state_dict().items()}
            state = {key: value.copy() for key, value in whole.state().items()}
    torch.manual_seed(9)
    continued = Pretrainer(objective(config), TRAINING, seed=0)
    continued.load(arrays, state)
    for number in range(3, 6):
        continued.update(batch(number))
    ours, theirs = whole.model.state_dict(), continued.model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("config", configs(), ids=named)
def test_updates_lower_the_loss(config: Any) -> None:
    made = trainer(config, replace(TRAINING, updates=60, lr=Schedule(kind="constant", top=3e-3)))
    losses = [float(made.update(batch(0))["loss/total"]) for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.95 * np.mean(losses[:5])


@pytest.mark.parametrize("config", [configs()[2], configs()[3]], ids=named)
def test_recorded_actions_are_not_seen(config: Any) -> None:
    given, without = trainer(config), trainer(config)
    for number in range(3):
        given.update(batch(number))
        without.update({"frames": batch(number)["frames"]})
    ours, theirs = given.model.state_dict(), without.model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_real_actions_are_seen() -> None:
    made = [trainer(small_config(real_actions=3)) for _ in range(2)]
    example = batch(0)
    for _ in range(2):  # a fresh model copies the last frame whatever the action
        made[0].update(example)
        made[1].update({**example, "actions": example["actions"][:, ::-1].copy()})
    weights = [one.model.state_dict()["dynamics.action.weight"] for one in made]
    assert not torch.equal(*weights)


def test_half_precision_and_recomputation_train_too() -> None:
    blocks = replace(small_config().tokenizer.encoder, recompute=True)
    tokenizer = replace(small_config().tokenizer, encoder=blocks, decoder=blocks)
    for config in (tokenizer, small_config()):
        metrics = trainer(config, replace(TRAINING, precision="bfloat16")).update(batch(0))
        assert np.isfinite(float(metrics["loss/total"]))


def test_grey_frames_become_colour() -> None:
    made = trainer(small_config().tokenizer)
    example = batch(0)
    grey = {"frames": example["frames"][..., :1]}
    assert np.isfinite(float(made.update(grey)["loss/total"]))
    with pytest.raises(ValueError, match=r"2 channels, the model takes 3; set model\.channels to 2"):
        made.update({"frames": example["frames"][..., :2]})
