"""Models from their files."""

from pathlib import Path

import torch
from torch import nn

from world_models.checkpoint_files import MANIFEST, MODEL_CONFIG, WEIGHTS, newest_model, read_arrays, verify
from world_models.model_document import read_model_document


def load_model(path: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """The model of a run, as in its newest checkpoint, or of one checkpoint, ready to be used.

    What can be done with it depends on its family: `encode` of I-JEPA and V-JEPA 2 takes normalised frames
    (`learner.frames.normalise`). ValueError: there is no model, or its files are damaged.
    """
    folder = newest_model(Path(path))
    if (folder / MANIFEST).exists():
        verify(folder, (MODEL_CONFIG, WEIGHTS))
    document = read_model_document(folder)
    model: nn.Module = document.family.build(document.observation, document.action, document.config)
    model.load_state_dict({name: torch.tensor(value) for name, value in read_arrays(folder / WEIGHTS).items()})
    return model.to(device).eval()
