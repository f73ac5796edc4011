"""Agents and policies as files: `model.safetensors` and `config.json`, the Hugging Face hub layout."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from deploy.wiring.config import RunConfig
from learner.checkpoint import Checkpoints
from world_models.checkpoint_files import BEST
from world_models.dreamer.acting import ActingModel
from world_models.model_document import ModelDocument
from world_models.space import Spaces


def as_arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """Parameters and buffers as numpy arrays."""
    return {key: value.detach().cpu().numpy() for key, value in module.state_dict().items()}


def load_arrays(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """The inverse of `as_arrays`; strict."""
    module.load_state_dict({key: torch.tensor(value) for key, value in arrays.items()})


def model_document(config: RunConfig, observation: Spaces, action: Spaces) -> dict[str, Any]:
    """The content of `config.json` in this run's checkpoints."""
    document = ModelDocument(task=config.task, observation=observation, action=action, config=config.model)
    return document.to_json()


def save_best(checkpoints: Checkpoints, config: RunConfig, model: ActingModel, score: Mapping[str, Any]) -> None:
    """Replace `checkpoints/best` with `model`, the acting part of the agent with the best evaluation score."""
    document = model_document(config, model.observation_space, model.action_space)
    checkpoints.save(BEST, {"model": as_arrays(model)}, {"config": document, "score": dict(score)})
