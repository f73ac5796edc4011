"""A simple world model as files: `model.safetensors` and `config.json`, the Hugging Face hub layout."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.numpy import save as to_bytes

from world_models.checkpoint_files import MODEL_CONFIG, WEIGHTS, read_arrays
from world_models.model_document import ModelDocument, read_model_document
from world_models.parameters import as_arrays, load_parameters
from world_models.simple.config import SimpleWorldModelConfig

if TYPE_CHECKING:
    from world_models.simple.world_model import SimpleWorldModel


def save(model: "SimpleWorldModel", folder: str | Path, task: str) -> Path:
    """Write both files, each complete or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    document = ModelDocument(
        task=task, observation=model.observation_space, action=model.action_space, config=model.config
    )
    _write(folder / WEIGHTS, to_bytes(as_arrays(model)))
    _write(folder / MODEL_CONFIG, json.dumps(document.to_json(), indent=2).encode())
    return folder


def read_config(folder: Path) -> SimpleWorldModelConfig:
    """The configuration in `config.json`; ValueError if it is that of another family."""
    document = read_model_document(folder)
    if document.family.name != SimpleWorldModelConfig.family:
        raise ValueError(f"{folder} holds a model of family {document.family.name!r}, not a SimpleWorldModel.")
    config: SimpleWorldModelConfig = document.config
    return config


def load_weights(model: torch.nn.Module, folder: Path) -> None:
    """Strict. ValueError names the parameters that are missing, unexpected or of another shape."""
    load_parameters(model, read_arrays(folder / WEIGHTS), folder / WEIGHTS)


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(data)
    os.replace(fresh, path)
