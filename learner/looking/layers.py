"""Features of patches, layer by layer, of whatever family of models has them.

Legend: B clips, T frames or times, S pixels a side, C channels, N patches, h rows, w columns, D features.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from world_models.dreamer.agent import Dreamer
from world_models.frames import prepared, with_channels
from world_models.genie.genie import Genie
from world_models.jepa.ijepa import IJEPA
from world_models.jepa.vjepa2 import VJEPA2
from world_models.jepa.vjepa2_ac import VJEPA2AC
from world_models.latent.encoder import Convolutions
from world_models.latent.latent_world import LatentWorld

SHOWN = 4
"""Layers at most."""

Layers = dict[str, Tensor]
"""By name, from the first layer on, `[B T h w D]`."""


@torch.no_grad()
def patch_layers(model: nn.Module, frames: UInt8[Tensor, "B T S S C"], most: int = SHOWN) -> Layers:
    """Features of every patch after at most `most` layers of the encoder, evenly spaced, the last one included.

    Of V-JEPA 2 a time is a tubelet; the last layer of a transformer is normalised as the encoder's output is. Of
    convolutions patches are the places of a layer, ever fewer. TypeError: the model has no encoder of patches.
    """
    layers, forward, shaped = _parts(model)
    chosen = sorted({round((k + 1) * len(layers) / most) - 1 for k in range(most)} - {-1})
    kept: dict[int, Tensor] = {}

    def keep(number: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            kept[number] = out[0] if isinstance(out, tuple) else out

        return hook

    hooks = [layers[number].register_forward_hook(keep(number)) for number in chosen]
    try:
        forward(frames)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        _name(number, len(layers)): shaped(kept[number], len(frames), number + 1 == len(layers)) for number in chosen
    }


def _name(number: int, layers: int) -> str:
    return f"layer {number + 1} of {layers}"


def _parts(
    model: nn.Module,
) -> tuple[Sequence[nn.Module], Callable[[Tensor], object], Callable[[Tensor, int, bool], Tensor]]:
    """The layers, what runs them over frames, and how an output (of so many clips, of the last layer) is laid out."""
    if isinstance(model, IJEPA | VJEPA2):
        encoder = model.target_encoder
        blocks, still = list(encoder.blocks), isinstance(model, IJEPA)

        def see(frames: Tensor) -> object:
            clips = prepared(frames, model.config.encoder.channels)
            return encoder(clips[:, :, 0] if still else clips)

        return blocks, see, _tokens(encoder.norm, model.config.encoder.grid)
    if isinstance(model, VJEPA2AC):
        channels = model.config.encoder.channels
        shaped = _tokens(model.encoder.norm, model.config.encoder.grid)
        return list(model.encoder.blocks), lambda frames: model.encode(prepared(frames, channels)), shaped
    if isinstance(model, LatentWorld):
        config, trunk = model.config.encoder, model.encoder.trunk

        def encode(frames: Tensor) -> object:
            return model.encode(prepared(frames, config.channels))

        if isinstance(trunk, Convolutions):
            return [part for part in trunk if isinstance(part, nn.GELU)], encode, _maps
        return list(trunk.blocks), encode, _tokens(trunk.norm, config.grid, skipped=1)
    if isinstance(model, Genie):
        tokenizer, channels = model.tokenizer, model.config.channels
        shaped = _tokens(tokenizer.encoder.norm, tokenizer.config.grid)

        def tokens(frames: Tensor) -> object:
            return model.encode(with_channels(frames, channels, "model.channels"))

        return list(tokenizer.encoder.blocks), tokens, shaped
    if isinstance(model, Dreamer) and model.encoder.images:
        cnn = model.encoder.cnn
        return list(cnn), lambda frames: cnn(frames.flatten(0, 1).movedim(-1, 1).float() / 255 - 0.5), _maps
    raise TypeError(f"{type(model).__name__} has no encoder of patches.")


def _tokens(norm: nn.Module, grid: int, skipped: int = 0) -> Callable[[Tensor, int, bool], Tensor]:
    """Lays out tokens `[... N D]` of a square grid, without the `skipped` ones before them."""

    def shaped(x: Tensor, rows: int, last: bool) -> Tensor:
        x = norm(x) if last else x
        if skipped:
            x = x[..., skipped:, :]
        return x.reshape(rows, -1, grid, grid, x.shape[-1])

    return shaped


def _maps(x: Tensor, rows: int, last: bool) -> Tensor:
    """Lays out maps of convolutions `[BT D h w]`."""
    return x.movedim(1, -1).unflatten(0, (rows, -1))
