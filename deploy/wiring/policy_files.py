"""Agents and policies as files: `model.safetensors` and `config.json`, the Hugging Face hub layout."""

from collections.abc import Mapping
from typing import Any

from deploy.wiring.config import RunConfig
from learner.checkpoint import Checkpoints
from world_models.checkpoint_files import BEST
from world_models.dreamer.acting import ActingModel
from world_models.dreamer.agent import Dreamer
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays
from world_models.space import Spaces


def model_document(config: RunConfig, observation: Spaces, action: Spaces) -> dict[str, Any]:
    """The content of `config.json` in this run's checkpoints."""
    document = ModelDocument(task=config.task, observation=observation, action=action, config=config.model)
    return document.to_json()


def save_best(
    checkpoints: Checkpoints, config: RunConfig, model: ActingModel | Dreamer, score: Mapping[str, Any]
) -> None:
    """Replace `checkpoints/best` with `model`, what acts of the agent with the best evaluation score."""
    document = model_document(config, model.observation_space, model.action_space)
    checkpoints.save(BEST, {"model": as_arrays(model)}, {"config": document, "score": dict(score)})
