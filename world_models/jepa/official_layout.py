"""Meta's checkpoints of I-JEPA, V-JEPA 2 and V-JEPA 2-AC: their names are ours, behind `module.` and `backbone.`.

Sizes are read from the file; only numbers of attention heads and the images' size cannot be.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from world_models.jepa.config import EncoderConfig, IJEPAConfig, PredictorConfig, VJEPA2ACConfig, VJEPA2Config
from world_models.jepa.conversion import Converted
from world_models.jepa.weight_files import Tensors

PARTS = ("encoder", "predictor", "target_encoder")
TRAINING = ("opt", "scaler", "epoch", "loss", "batch_size", "world_size", "lr", "itr")
"""What Meta's programs save beside the model."""
STALE = "a positional table that rotary positions replace"
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 22, 1664: 26}
"""Attention heads of published encoders by width; I-JEPA's of 1408 has 16."""
BLOCK = 12
"""Tensors of a block."""


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """What a file of weights does not tell; 0: as published."""

    heads: int = 0
    """Attention heads of the encoder."""
    predictor_heads: int = 0
    """Attention heads of the predictor."""
    size: int = 0
    """Height and width of the images, in pixels."""


def from_official(tensors: Mapping[str, Tensor], rotary: bool, target: bool = True) -> Converted:
    """Meta's tensors under our names. `rotary`: positions are rotary; `target`: the model has a target encoder."""
    out = Converted()
    for key, value in tensors.items():
        part, _, name = key.partition(".")
        name = name.removeprefix("module.").removeprefix("backbone.")
        if part == "ema_encoder":
            part = "target_encoder"
        if part in TRAINING:
            out.left_out[key] = "of the optimiser or the run, not of the model"
        elif part not in PARTS:
            out.add(key, value, key)
        elif part == "target_encoder" and not target:
            out.left_out[key] = "the model has one encoder"
        elif rotary and name in ("pos_embed", "predictor_pos_embed"):
            out.left_out[key] = STALE
        else:
            out.add(f"{part}.{name}", value, key)
    if target:
        out.copy_part("target_encoder", "encoder")
        out.copy_part("encoder", "target_encoder")
    return out


def to_official(model: nn.Module, backbone: bool) -> dict[str, Tensors]:
    """Our weights as Meta's programs save them: a dictionary for each part, names behind `module.` or
    `module.backbone.`."""
    prefix = "module.backbone." if backbone else "module."
    out: dict[str, Tensors] = {}
    for name, value in model.state_dict().items():
        part, _, rest = name.partition(".")
        out.setdefault(part, {})[prefix + rest] = value.detach().cpu().clone()
    return out


def ijepa_config(tensors: Mapping[str, Tensor], told: Unreadable) -> IJEPAConfig:
    """The configuration of converted tensors. ValueError: a size cannot be told."""
    encoder, predictor = _part(tensors, "encoder"), _part(tensors, "predictor")
    sizes = _sizes(encoder, "blocks")
    patch, channels, _ = _patches(encoder)
    tokens = encoder["pos_embed"].shape[1] if "pos_embed" in encoder else 0
    heads = told.heads or (16 if sizes["width"] == 1408 else _heads(sizes["width"]))
    return IJEPAConfig(
        encoder=EncoderConfig(
            size=told.size or round(tokens**0.5) * patch or 224, patch=patch, channels=channels, heads=heads, **sizes
        ),
        predictor=PredictorConfig(heads=told.predictor_heads or heads, **_sizes(predictor, "predictor_blocks")),
    )


def vjepa2_config(tensors: Mapping[str, Tensor], told: Unreadable) -> VJEPA2Config:
    """The configuration of converted tensors. ValueError: a size cannot be told."""
    predictor = _part(tensors, "predictor")
    numbers = {int(found[1]) for name in predictor if (found := re.fullmatch(r"mask_tokens\.(\d+)", name))}
    sizes = _sizes(predictor, "predictor_blocks")
    heads = told.predictor_heads or (12 if sizes["width"] == 384 else _heads(sizes["width"]))
    return VJEPA2Config(
        encoder=_video_encoder(_part(tensors, "encoder"), told),
        predictor=PredictorConfig(heads=heads, mask_tokens=max(numbers, default=9) + 1, **sizes),
    )


def vjepa2_ac_config(tensors: Mapping[str, Tensor], told: Unreadable) -> VJEPA2ACConfig:
    """The configuration of converted tensors. ValueError: a size cannot be told."""
    predictor = _part(tensors, "predictor")
    sizes = _sizes(predictor, "predictor_blocks")
    action, state, extrinsics = (
        predictor[name].shape[-1] if (name := f"{kind}_encoder.weight") in predictor else 0
        for kind in ("action", "state", "extrinsics")
    )
    action = action or 7  # a missing encoder of actions is reported as such
    update = "pose" if action == state == 7 else "add" if action == state else "hold"
    heads = told.predictor_heads or _heads(sizes["width"])
    return VJEPA2ACConfig(
        encoder=_video_encoder(_part(tensors, "encoder"), told),
        predictor=PredictorConfig(heads=heads, mask_tokens=0, **sizes),
        action=action, state=state, extrinsics=extrinsics, state_update=update,
    )  # fmt: skip


def _video_encoder(encoder: Tensors, told: Unreadable) -> EncoderConfig:
    sizes = _sizes(encoder, "blocks")
    patch, channels, tubelet = _patches(encoder)
    return EncoderConfig(
        size=told.size or 256, patch=patch, tubelet=tubelet or 2, channels=channels,
        heads=told.heads or _heads(sizes["width"]), **sizes,
    )  # fmt: skip


def _part(tensors: Mapping[str, Tensor], part: str) -> Tensors:
    return {name.removeprefix(f"{part}."): x for name, x in tensors.items() if name.startswith(f"{part}.")}


def _sizes(part: Tensors, blocks: str) -> dict[str, Any]:
    """Width, depth and MLP ratio: what most tensors of the blocks agree on, so that a wrong one is seen as such."""
    counts = Counter(int(found[1]) for name in part if (found := re.match(rf"{blocks}\.(\d+)\.", name)))
    depth = 0
    while counts[depth] > BLOCK // 2:
        depth += 1
    if not depth:
        raise ValueError(f"The weights hold no {blocks}.0; this is no checkpoint of the named model.")

    def usual(axes: Mapping[str, int]) -> int:
        votes: Counter[int] = Counter()
        for name, x in part.items():
            axis = next((axes[tail] for tail in axes if name.endswith(tail)), None)
            if name.startswith(f"{blocks}.") and axis is not None and axis < x.ndim:
                votes[x.shape[axis]] += 1
        return votes.most_common(1)[0][0]

    width = usual(
        dict.fromkeys(("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "proj.bias", "fc2.bias"), 0)
    )
    hidden = usual({"fc1.bias": 0, "fc1.weight": 0, "fc2.weight": 1})
    return {"width": width, "depth": depth, "mlp_ratio": hidden / width}


def _patches(encoder: Tensors) -> tuple[int, int, int]:
    """Patch, channels and tubelet (0 for images); as published if the tensor is missing, and reported as such then."""
    weight = encoder.get("patch_embed.proj.weight")
    if weight is None or weight.ndim not in (4, 5):
        return 16, 3, 0
    return weight.shape[-1], weight.shape[1], weight.shape[2] if weight.ndim == 5 else 0


def heads_are_known(config: IJEPAConfig | VJEPA2Config | VJEPA2ACConfig) -> bool:
    """Whether a published encoder is as wide, so that its number of attention heads is known."""
    return config.encoder.width in HEADS


def _heads(width: int) -> int:
    """As published, or else the number that makes a head at least 64 wide: as in all published encoders but two."""
    if width in HEADS:
        return HEADS[width]
    return next(heads for heads in range(max(1, width // 64), 0, -1) if width % (2 * heads) == 0 or heads == 1)
