"""Genie's models small enough for tests."""

import torch

from world_models.genie.config import (
    DynamicsConfig,
    GenieConfig,
    LatentActionConfig,
    QuantizerConfig,
    TokenizerConfig,
    TransformerConfig,
)
from world_models.genie.genie import Genie

BLOCKS = TransformerConfig(width=16, depth=2, heads=2)


def small_config(real_actions: int = 0, conditioning: str = "prepend", kind: str = "vq") -> GenieConfig:
    """Frames of 8 pixels, 4 tokens each; clips of 4 frames; 3 actions."""
    quantizer = QuantizerConfig(kind=kind, codes=16, width=4, levels=(4, 4))
    return GenieConfig(
        tokenizer=TokenizerConfig(size=8, frames=4, encoder=BLOCKS, decoder=BLOCKS, quantizer=quantizer),
        latent_action=LatentActionConfig(size=8, frames=4, patch=4, encoder=BLOCKS, decoder=BLOCKS, actions=3),
        dynamics=DynamicsConfig(
            transformer=TransformerConfig(width=16, depth=2, heads=2, qk_norm=True), conditioning=conditioning, steps=3
        ),
        real_actions=real_actions,
    )


def small_genie(seed: int = 0, **options: object) -> Genie:
    """A fresh world whose networks do something: their last layers are not 0."""
    torch.manual_seed(seed)
    model = Genie(small_config(**options)).eval()  # type: ignore[arg-type]
    for part in (model.tokenizer.to_pixels, *([model.latent_action.to_pixels] if model.latent_action else [])):
        torch.nn.init.normal_(part.weight, std=0.1)
    return model


def clips(rows: int = 2, frames: int = 4, seed: int = 0, size: int = 8) -> torch.Tensor:
    """Random pictures, uint8 `[B T S S 3]`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, frames, size, size, 3), generator=generator, dtype=torch.uint8)
