"""Pretraining from Python: the same updates as the command's, and worlds in one call."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
import pytest
import torch

from deploy.stored.datasets import open_dataset
from learner.datasets.batches import Batches
from learner.datasets.dataset import Clip
from learner.datasets.generated.held import Held
from learner.datasets.view import View
from learner.pretrain.config import TrainingConfig
from learner.pretrain.genie_objectives import TokenizerObjective
from learner.pretrain.library import pretrain, pretrain_genie
from learner.pretrain.pretrainer import Pretrainer
from tests.world_models.genie.small import small_config
from world_models.genie.genie import Genie
from world_models.parameters import as_arrays

README = Path(__file__).parents[3]
TRAINING = TrainingConfig(batch_size=4, updates=5, device="cpu")


def clips(actions: int = 0) -> Held:
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(20, 4, 8, 8, 3)).astype(np.uint8)
    known = rng.random((20, 3, actions), np.float32) if actions else None
    return Held(name="noise", frames=frames, actions=known, clip=Clip(frames=4), view=View(size=8))


def test_updates_are_those_of_the_trainer() -> None:
    seen: list[tuple[int, float]] = []

    def note(number: int, metrics: Mapping[str, SupportsFloat]) -> None:
        seen.append((number, float(metrics["loss/total"])))

    torch.manual_seed(0)
    model = pretrain(TokenizerObjective(small_config().tokenizer), clips(), TRAINING, seed=3, note=note)
    torch.manual_seed(0)
    trainer = Pretrainer(TokenizerObjective(small_config().tokenizer), TRAINING, seed=3)
    batches = Batches(clips(), size=4, seed=3, threads=0)
    losses = [float(trainer.update(batches.batch(number))["loss/total"]) for number in range(5)]
    assert seen == list(enumerate(losses, 1)) and not model.training
    for name, array in as_arrays(trainer.model).items():
        np.testing.assert_array_equal(array, as_arrays(model)[name])


@pytest.mark.parametrize("real_actions", [0, 2])
def test_a_world_in_one_call(real_actions: int) -> None:
    count = 0

    def note(number: int, metrics: Mapping[str, SupportsFloat]) -> None:
        nonlocal count
        count += 1

    world = pretrain_genie(clips(real_actions), small_config(real_actions), TRAINING, note=note)
    assert count == 5 * (2 if real_actions else 3)
    actions = torch.zeros(2, 3, 2) if real_actions else torch.zeros(2, 3, dtype=torch.long)
    again = pretrain_genie(clips(real_actions), small_config(real_actions), TRAINING)
    assert all(map(torch.equal, world.state_dict().values(), again.state_dict().values()))
    frames = torch.from_numpy(clips().frames[:2, :1])
    assert world.generate(frames, actions).shape == (2, 3, 8, 8, 3)


def test_the_readme_runs() -> None:
    """As it is printed, but for two updates."""
    [program] = [part for part in (README / "README.md").read_text().split("```python\n") if "pretrain_genie" in part]
    program = program.split("```")[0]
    assert "updates=1000" in program
    names: dict[str, Any] = {}
    exec(compile(program.replace("updates=1000", "updates=2"), "README.md", "exec"), names)
    assert isinstance(names["world"], Genie)


@pytest.mark.parametrize(
    ("clip", "size", "real_actions", "message"),
    [
        (Clip(frames=4), 12, 0, r"has clips \[4, 12, 12, 3\], but the configuration takes \[4, 8, 8, 3\]"),
        (Clip(frames=6), 8, 0, r"has clips \[6, 8, 8, 3\]"),
        (Clip(frames=4), 8, 3, r"has actions of 5 numbers, but real_actions=3"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(clip: Clip, size: int, real_actions: int, message: str) -> None:
    data = open_dataset("generated:block_world", clip, View(size=size))

    def note(number: int, metrics: Mapping[str, SupportsFloat]) -> None:
        raise AssertionError("it trains")

    with pytest.raises(ValueError, match=message):
        pretrain_genie(data, small_config(real_actions), TRAINING, note=note)
