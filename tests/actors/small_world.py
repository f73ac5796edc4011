"""A checkpoint of a small, untrained Genie, as runs save it."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.numpy import save_file

from world_models.checkpoint_files import MODEL_CONFIG, WEIGHTS
from world_models.genie.config import (
    DynamicsConfig,
    GenieConfig,
    LatentActionConfig,
    QuantizerConfig,
    TokenizerConfig,
    TransformerConfig,
)
from world_models.genie.genie import Genie
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays

_SMALL = TransformerConfig(width=8, depth=1, heads=2)


def small_config(real_actions: int = 0) -> GenieConfig:
    """16 pixels a side, 4 tokens, 3 latent actions."""
    return GenieConfig(
        tokenizer=TokenizerConfig(
            size=16, frames=4, patch=8, encoder=_SMALL, decoder=_SMALL,
            quantizer=QuantizerConfig(kind="fsq", levels=(3, 3)),
        ),
        latent_action=LatentActionConfig(size=16, frames=4, patch=8, encoder=_SMALL, decoder=_SMALL, actions=3),
        dynamics=DynamicsConfig(transformer=replace(_SMALL, qk_norm=True), steps=2),
        real_actions=real_actions,
    )  # fmt: skip


def small_genie(real_actions: int = 0) -> Genie:
    torch.manual_seed(0)
    genie = Genie(small_config(real_actions)).eval()
    for parameter in genie.parameters():  # nothing stays at zero, so that all has an effect
        torch.nn.init.normal_(parameter, std=0.5)
    return genie


def saved_genie(folder: Path, real_actions: int = 0) -> Path:
    genie = small_genie(real_actions)
    folder.mkdir(parents=True)
    save_file(as_arrays(genie), folder / WEIGHTS)
    (folder / MODEL_CONFIG).write_text(json.dumps(ModelDocument(config=genie.config).to_json()))
    return folder
