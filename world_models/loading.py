"""Models from their files."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from world_models.checkpoint_files import MANIFEST, MODEL_CONFIG, WEIGHTS, newest_model, read_arrays, verify
from world_models.model_document import ModelDocument, read_model_document
from world_models.parameters import OTHER_MODEL, load_parameters

_ACTING = (
    "A checkpoint named best has the acting part alone: give the run directory or one of its numbered checkpoints."
)


class LoadedModel(NamedTuple):
    """A model and where it comes from."""

    folder: Path
    document: ModelDocument
    model: nn.Module
    """In evaluation mode."""


def load_world_model(path: str | Path, device: str | torch.device = "cpu") -> LoadedModel:
    """The whole model of a run, as in its newest checkpoint, or of one checkpoint.

    ValueError: there is none, its files are damaged, or they do not fit: a checkpoint may have only the part that acts.
    """
    folder = newest_model(Path(path))
    if (folder / MANIFEST).exists():
        verify(folder, (MODEL_CONFIG, WEIGHTS))
    document, arrays = read_model_document(folder), read_arrays(folder / WEIGHTS)
    model: nn.Module = document.family.build(document.observation, document.action, document.config)
    remedy = _ACTING if document.family.acts else OTHER_MODEL
    load_parameters(model, arrays, folder / WEIGHTS, remedy)
    return LoadedModel(folder, document, model.to(device).eval())


def load_model(path: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """The model of a run, as in its newest checkpoint, or of one checkpoint, ready to be used.

    What can be done with it depends on its family: `encode` of I-JEPA and V-JEPA 2 takes normalised frames
    (`world_models.frames.normalise`). ValueError: there is no model, or its files are damaged.
    """
    return load_world_model(path, device).model
