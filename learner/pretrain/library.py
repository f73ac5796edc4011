"""Pretraining as a library: a model from a dataset in a few lines, without files or a command line.

`nexus pretrain` trains the same updates, and adds checkpoints, measurements and processes.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import SupportsFloat

import numpy as np
import torch
from torch import nn

from learner.datasets.batches import Batches
from learner.datasets.dataset import Dataset, Example
from learner.pretrain.config import TrainingConfig
from learner.pretrain.genie_objectives import DynamicsObjective, LatentActionObjective, TokenizerObjective
from learner.pretrain.objective import Objective
from learner.pretrain.pretrainer import Pretrainer
from world_models.genie.config import GenieConfig
from world_models.genie.genie import Genie
from world_models.parameters import load_parameters

Note = Callable[[int, Mapping[str, SupportsFloat]], None]
"""Told of every update: its number from 1, and losses and rates."""


def pretrain(
    objective: Objective, dataset: Dataset, training: TrainingConfig | None = None, *, seed: int = 0,
    threads: int = 2, note: Note | None = None,
) -> nn.Module:  # fmt: skip
    """The objective's model after `training.updates` updates, ready for use. Every draw is a function of the seed; the
    initial weights are those that the objective came with.

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
    there are no latent ones. Initial weights too are a function of the seed. Errors as those of `pretrain`; what does
    not fit is found before anything is trained.
    """
    _require_fitting(dataset, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective = DynamicsObjective(config)
        parts = TokenizerObjective(config.tokenizer), LatentActionObjective(config.latent_action)
    tokenizer = pretrain(parts[0], dataset, training, seed=seed, note=note)
    load_parameters(objective.model.tokenizer, tokenizer.state_dict(), "the tokenizer")
    if objective.model.latent_action is not None:
        clips = _Beginnings(dataset, config.latent_action.frames)
        actions = pretrain(parts[1], clips, training, seed=seed, note=note)
        load_parameters(objective.model.latent_action, actions.state_dict(), "the latent action model")
    world = pretrain(objective, dataset, training, seed=seed, note=note)
    assert isinstance(world, Genie)
    return world


def _require_fitting(dataset: Dataset, config: GenieConfig) -> None:
    """ValueError: examples are not what the models take."""
    batch = Batches(dataset, size=1, seed=0, threads=0).batch(0)
    found, size = list(batch["frames"].shape[1:]), config.size
    needed = [config.frames, size, size, config.channels]
    if found[:3] != needed[:3] or found[3] not in (1, config.channels):
        raise ValueError(f"{dataset.describe()} has clips {found}, but the configuration takes {needed}.")
    if not config.real_actions and config.latent_action.frames > config.frames:
        raise ValueError(
            f"latent_action.frames={config.latent_action.frames} is more than the tokenizer's, of which clips are: "
            f"{config.frames}."
        )
    width = batch["actions"].shape[-1] if "actions" in batch else 0
    if config.real_actions and width != config.real_actions:
        raise ValueError(
            f"{dataset.describe()} has actions of {width} numbers, but real_actions={config.real_actions}."
        )


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
