"""Pretraining as a library: a model from a dataset in a few lines, without files or a command line.

`nexus pretrain` trains the same updates, and adds checkpoints, measurements and processes.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import SupportsFloat

import numpy as np
from torch import nn

from learner.datasets.batches import Batches
from learner.datasets.dataset import Dataset, Example
from learner.pretrain.config import TrainingConfig
from learner.pretrain.genie_objectives import DynamicsObjective, LatentActionObjective, TokenizerObjective
from learner.pretrain.objective import Objective
from learner.pretrain.pretrainer import Pretrainer
from world_models.genie.config import GenieConfig
from world_models.genie.genie import Genie
from world_models.genie.latent_action import LatentActionModel
from world_models.genie.tokenizer import VideoTokenizer
from world_models.parameters import load_parameters

Note = Callable[[int, Mapping[str, SupportsFloat]], None]
"""Told of every update: its number from 1, and losses and rates."""


def pretrain(
    objective: Objective, dataset: Dataset, training: TrainingConfig | None = None, *, seed: int = 0,
    threads: int = 2, note: Note | None = None,
) -> nn.Module:  # fmt: skip
    """The objective's model after `training.updates` updates, ready for use. Every draw is a function of the seed.

    `objective` is one of `learner/pretrain/*_objectives.py`, `dataset` one of `deploy.stored.datasets.open_dataset` or
    your own (`learner/datasets/dataset.py`); `threads` read it ahead. ValueError: the dataset does not fit the model,
    or too much of it is unreadable; NonFiniteError: a loss is not finite.
    """
    training = training or TrainingConfig()
    trainer = Pretrainer(objective, training, seed=seed)
    with closing(Batches(dataset, size=training.batch_size, seed=seed, threads=threads).after()) as batches:
        for batch in batches:
            metrics = trainer.update(batch)
            if note is not None:
                note(trainer.updates, metrics)
            if trainer.updates == training.updates:
                break
    return objective.model.eval()


def pretrain_genie(
    dataset: Dataset, config: GenieConfig, training: TrainingConfig | None = None, *, seed: int = 0,
    note: Note | None = None,
) -> Genie:  # fmt: skip
    """A world from video: tokenizer, latent actions and dynamics, each trained in the same way, one after another.

    Clips have `config.frames` frames of `config.size`; with `config.real_actions` also actions of that width, and then
    there are no latent ones. Errors as those of `pretrain`.
    """
    tokenizer = pretrain(TokenizerObjective(config.tokenizer), dataset, training, seed=seed, note=note)
    assert isinstance(tokenizer, VideoTokenizer)
    objective = DynamicsObjective(config)
    load_parameters(objective.model.tokenizer, tokenizer.state_dict(), "the tokenizer")
    if objective.model.latent_action is not None:
        clips = _Beginnings(dataset, config.latent_action.frames)
        actions = pretrain(LatentActionObjective(config.latent_action), clips, training, seed=seed, note=note)
        assert isinstance(actions, LatentActionModel)
        load_parameters(objective.model.latent_action, actions.state_dict(), "the latent action model")
    world = pretrain(objective, dataset, training, seed=seed, note=note)
    assert isinstance(world, Genie)
    return world


class _Beginnings:
    """The first frames of each clip, without what else is known of it."""

    def __init__(self, dataset: Dataset, frames: int) -> None:
        self.dataset, self.frames = dataset, frames

    @property
    def live(self) -> bool:
        return self.dataset.live

    def __len__(self) -> int:
        return len(self.dataset)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        return {"frames": self.dataset.example(index, rng)["frames"][: self.frames]}

    def describe(self) -> str:
        return self.dataset.describe()

    def close(self) -> None:
        self.dataset.close()
