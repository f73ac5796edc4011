"""Agents and policies as files: `model.safetensors` and `config.json`, the Hugging Face hub layout."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from deploy.wiring.config import RunConfig
from learner.checkpoint import Checkpoints
from world_models.dataclass_json import to_json
from world_models.dreamer.acting import ActingModel
from world_models.space import Spaces

BEST = "best"


def as_arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """Parameters and buffers on the host."""
    return {key: value.detach().cpu().numpy() for key, value in module.state_dict().items()}


def load_arrays(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """The inverse of `as_arrays`; strict."""
    module.load_state_dict({key: torch.tensor(value) for key, value in arrays.items()})


def model_document(config: RunConfig, observation: Spaces, action: Spaces) -> dict[str, Any]:
    """What `config.json` says: enough to build the model again without the environment."""
    return {
        "task": config.task,
        "observation": {key: space.to_json() for key, space in observation.items()},
        "action": {key: space.to_json() for key, space in action.items()},
        "model": to_json(config.model),
    }


def save_best(checkpoints: Checkpoints, config: RunConfig, model: ActingModel, score: Mapping[str, Any]) -> None:
    """Replace `checkpoints/best`, the acting part of the agent that scored best in evaluation."""
    document = model_document(config, model.observation_space, model.action_space)
    checkpoints.save(BEST, {"model": as_arrays(model)}, {"config": document, "score": dict(score)})
