"""A tiny latent world model, and a run of its pretraining."""

from pathlib import Path
from typing import Any

import torch

from deploy.wiring.config_file import save_config
from deploy.wiring.pretraining import LatentRun
from learner.checkpoint import Checkpoints
from world_models.latent.config import EncoderConfig, LatentWorldConfig, PredictorConfig, RegulariserConfig
from world_models.latent.latent_world import LatentWorld
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays


def small_config(size: int = 8, **options: Any) -> LatentWorldConfig:
    """With frames of 8x8 pixels, latents of 6 numbers and actions of 2, if `options` do not say otherwise."""
    settings: dict[str, Any] = {"latent": 6, "action": 2, "frames": 4, "history": 1, "rollout": 2} | options
    return LatentWorldConfig(
        encoder=EncoderConfig(size=size, patch=4, width=16, depth=1, heads=2, hidden=16),
        predictor=PredictorConfig(width=16, depth=2, heads=2),
        regulariser=RegulariserConfig(projections=16),
        **settings,
    )


def build(**options: Any) -> LatentWorld:
    """In evaluation mode, with weights of seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LatentWorld(small_config(**options)).eval()


def saved(folder: Path, **options: Any) -> Path:
    """A run: neither its configuration nor its document names a task."""
    model = build(**options)
    save_config(LatentRun(model=model.config), folder)
    document = ModelDocument(config=model.config).to_json()
    Checkpoints.of(folder).save(3, {"model": as_arrays(model)}, {"config": document})
    return folder
