"""A tiny V-JEPA 2-AC, and a run of its pretraining."""

from pathlib import Path
from typing import Any

import torch

from deploy.wiring.config_file import save_config
from deploy.wiring.pretraining import VJEPA2ACRun
from learner.checkpoint import Checkpoints
from world_models.jepa.config import EncoderConfig, PredictorConfig, VJEPA2ACConfig
from world_models.jepa.vjepa2_ac import VJEPA2AC
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays


def build(**options: Any) -> VJEPA2AC:
    """With two numbers in an action and no state, if `options` do not say otherwise."""
    encoder = EncoderConfig(size=8, patch=4, tubelet=2, width=16, depth=1, heads=2)
    predictor = PredictorConfig(width=16, depth=2, heads=2, mask_tokens=0)
    settings: dict[str, Any] = {"action": 2, "state": 0, "state_update": "hold"} | options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VJEPA2AC(VJEPA2ACConfig(encoder=encoder, predictor=predictor, **settings)).eval()


def saved(folder: Path, **options: Any) -> Path:
    """A run: neither its configuration nor its document names a task."""
    model = build(**options)
    save_config(VJEPA2ACRun(model=model.config), folder)
    document = ModelDocument(config=model.config).to_json()
    Checkpoints.of(folder).save(3, {"model": as_arrays(model)}, {"config": document})
    return folder
