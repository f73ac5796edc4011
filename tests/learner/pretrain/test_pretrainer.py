"""Updates: they lower the loss, depend on nothing but state, seed and batch, and continue exactly."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from learner.datasets.dataset import Example
from learner.learner import NonFiniteError
from learner.pretrain.config import ProbeConfig, TrainingConfig
from learner.pretrain.monitor import Monitor
from learner.pretrain.objectives import objective
from learner.pretrain.pretrainer import Pretrainer, choose_device
from learner.processes import Processes
from learner.schedules import Schedule
from tests.world_models.latent.small import small_config as small_latent
from world_models.jepa import presets
from world_models.jepa.config import EncoderConfig, IJEPAConfig, SpreadConfig, VJEPA2ACConfig, VJEPA2Config
from world_models.latent.config import LatentWorldConfig

Config = IJEPAConfig | VJEPA2Config | VJEPA2ACConfig | LatentWorldConfig
TRAINING = TrainingConfig(
    batch_size=4, updates=8, device="cpu", lr=Schedule(kind="cosine", start=1e-3, top=5e-3, end=1e-4, warmup=2)
)


def small(encoder: EncoderConfig) -> EncoderConfig:
    return replace(encoder, size=16, width=16, depth=1, heads=2)


def configs() -> list[Config]:
    image, video = presets.ijepa(), presets.vjepa2()
    ac = presets.vjepa2_ac(action=2, state=3)
    narrow: Any = {"width": 16, "depth": 1, "heads": 2}
    return [
        replace(image, encoder=small(image.encoder), predictor=replace(image.predictor, **narrow)),
        replace(video, encoder=small(video.encoder), predictor=replace(video.predictor, **narrow), frames=4),
        replace(ac, encoder=small(ac.encoder), predictor=replace(ac.predictor, **narrow), frames=4),
        small_latent(16, inverse=1.0),
    ]


def batch(number: int, frames: int = 4, size: int = 4) -> Example:
    rng = np.random.default_rng(number)
    return {
        "frames": rng.integers(0, 256, (size, frames, 16, 16, 3), dtype=np.uint8),
        "actions": rng.normal(size=(size, frames - 1, 2)).astype(np.float32),
        "states": rng.normal(size=(size, frames, 3)).astype(np.float32),
        "label": np.arange(size) % 2,
    }


def trainer(config: Config, training: TrainingConfig = TRAINING, seed: int = 0) -> Pretrainer:
    torch.manual_seed(seed)
    return Pretrainer(objective(config), training, seed=seed)


def copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def frames_of(config: Config) -> int:
    return getattr(config, "frames", 1)


@pytest.mark.parametrize("config", configs(), ids=lambda config: config.family)
def test_a_run_that_continues_is_the_same_run(config: Config) -> None:
    straight, first = trainer(config), trainer(config)
    numbers = [straight.update(batch(k, frames_of(config))) for k in range(6)]
    for k in range(3):
        first.update(batch(k, frames_of(config)))
    arrays = {key: value.numpy().copy() for key, value in first.model.state_dict().items()}
    second = trainer(config, seed=0)
    for parameter in second.model.parameters():
        torch.nn.init.ones_(parameter)
    second.load(arrays, {key: np.array(value) for key, value in first.state().items()})
    again = [second.update(batch(k, frames_of(config))) for k in range(3, 6)]
    assert [{k: float(v) for k, v in line.items()} for line in again] == [
        {k: float(v) for k, v in line.items()} for line in numbers[3:]
    ]
    theirs = second.model.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in straight.model.state_dict().items())
    assert second.updates == 6


@pytest.mark.parametrize("config", configs(), ids=lambda config: config.family)
def test_updates_lower_the_loss_of_what_is_trained_alone(config: Config) -> None:
    training = replace(TRAINING, updates=40, momentum=Schedule(kind="constant", top=0.99))
    made = trainer(config, training)
    encoder = made.model.get_submodule("encoder")
    frozen = copied(encoder) if isinstance(config, VJEPA2ACConfig) else {}
    losses = [float(made.update(batch(0, frames_of(config)))["loss/total"]) for _ in range(40)]
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(encoder.state_dict()[key], value) for key, value in frozen.items())


def test_rates_follow_their_schedules() -> None:
    made = trainer(configs()[0])
    lines = [made.update(batch(k, 1)) for k in range(8)]
    assert [line["optimizer/learning_rate"] for line in lines[:2]] == [3e-3, 5e-3]
    assert lines[-1]["optimizer/learning_rate"] == pytest.approx(1e-4)
    assert lines[0]["target/momentum"] == pytest.approx(0.9965)
    assert lines[-1]["target/momentum"] == 1.0
    assert lines[0]["optimizer/weight_decay"] == 0.04


def test_masks_differ_between_updates_and_seeds_alone() -> None:
    made, other = trainer(configs()[0]), trainer(configs()[0], seed=1)
    first, again, second = made.draw(0, 4), made.draw(0, 4), made.draw(1, 4)
    for ids, same in zip(first, again, strict=True):  # type: ignore[call-overload]
        assert torch.equal(ids, same)
    assert not torch.equal(first.target, second.target)  # type: ignore[attr-defined]
    assert str(made.draw(0, 4)) != str(other.draw(0, 4))


def test_a_loss_that_is_not_finite_ends_the_run_before_it_changes_the_weights() -> None:
    made = trainer(configs()[2])
    before = copied(made.model)
    broken = batch(0)
    broken["actions"][0, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="Update 1 of pretraining produced a loss of nan"):
        made.update(broken)
    assert all(torch.equal(value, before[key]) for key, value in made.model.state_dict().items())


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"training\.batch_size=4 is no multiple of the 3 processes"):
        Processes(0, 3).share(4)
    with pytest.raises(ValueError, match="3 channels, the model takes 4; set encoder.channels to 3"):
        config: Any = configs()[0]
        trainer(replace(config, encoder=replace(config.encoder, channels=4))).update(batch(0, 1))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="training.device='cuda', but torch sees no CUDA device"):
            choose_device("cuda")
    with pytest.raises(ValueError, match="WORLD_SIZE=2 without MASTER_ADDR, MASTER_PORT; start all with torchrun"):
        Processes.join({"WORLD_SIZE": "2", "RANK": "0"})


def test_half_precision_and_recomputation_train_too() -> None:
    config: Any = configs()[1]
    config = replace(config, encoder=replace(config.encoder, recompute=True))
    made = trainer(config, replace(TRAINING, precision="bfloat16"))
    losses = [float(made.update(batch(0))["loss/total"]) for _ in range(8)]
    assert losses[-1] < losses[0]


class Fixed:
    """Examples in memory."""

    live = False

    def __init__(self, examples: Example) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples["frames"])

    def example(self, index: int, rng: np.random.Generator) -> Example:
        return {key: value[index] for key, value in self.examples.items()}

    def describe(self) -> str:
        return "examples in memory"

    def close(self) -> None:
        return None


@pytest.mark.parametrize("config", configs(), ids=lambda config: config.family)
def test_measurements_change_nothing_and_repeat(config: Config) -> None:
    made = trainer(config)
    frames = frames_of(config)
    train, held = Fixed(batch(0, frames, 16)), Fixed(batch(1, frames, 8))
    monitor = Monitor(made, train, held, ProbeConfig(examples=8, batch_size=4), seed=0)
    before = copied(made.model)
    measured = monitor.measure()
    assert measured == monitor.measure()
    assert all(torch.equal(value, before[key]) for key, value in made.model.state_dict().items())
    assert made.model.training
    probes = {"probe/effective_rank", "probe/linear_accuracy", "probe/knn_accuracy"}
    if isinstance(config, VJEPA2ACConfig):
        probes = set()
    elif isinstance(config, LatentWorldConfig):
        own = ("latent_std", "latent_std_least", "prediction_ratio", "rollout_ratio", "state_r2")
        probes |= {f"probe/{name}" for name in own}
    assert measured.keys() == {"probe/loss", "probe/trivial_loss"} | probes
    assert measured["probe/trivial_loss"] > 0


def test_a_prediction_that_copies_frames_is_worth_the_trivial_loss_of_ac() -> None:
    made = trainer(configs()[2])
    still = batch(0)
    still["frames"][:] = still["frames"][:, :1]
    assert float(made.objective.trivial_loss(made.to_device(still)).abs().max()) == 0
    assert float(made.objective.trivial_loss(made.to_device(batch(0))).min()) > 0


@pytest.mark.parametrize("config", configs()[:2], ids=lambda config: config.family)
def test_the_loss_that_is_compared_is_the_predictions_alone(config: Config) -> None:
    spread, data = SpreadConfig(variance=1.0, covariance=0.5), Fixed(batch(0, frames_of(config), 8))
    plain, with_spread = (
        Monitor(trainer(one), data, data, ProbeConfig(examples=8, batch_size=4), seed=0).measure()
        for one in (config, replace(config, spread=spread))  # type: ignore[arg-type]
    )
    assert with_spread["probe/loss"] == pytest.approx(plain["probe/loss"], rel=1e-5)
    assert with_spread["probe/trivial_loss"] == pytest.approx(plain["probe/trivial_loss"], rel=1e-5)
    assert with_spread.keys() - plain.keys() == {"probe/loss/variance", "probe/loss/covariance"}
