"""The encoders of pretrained models, frozen or to be trained, with one interface.

Legend: B batch, T frames, S pixels a side, C channels, N tokens, D width.
"""

import copy
import hashlib
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from world_models.frames import prepared
from world_models.parameters import as_arrays

FAMILIES = ("ijepa", "vjepa2", "vjepa2_ac", "latent_world")
"""Families of models that have an encoder of pictures or clips."""
AVERAGED = ("ijepa", "vjepa2")
"""Those with a target encoder, the exponential moving average, which is what is probed."""


def require_family(family: str, name: str) -> None:
    """ValueError: models of this family have no encoder that can be probed."""
    if family not in FAMILIES:
        raise ValueError(
            f"{name} is a {family} model, which has no encoder to probe; give a run or checkpoint of nexus pretrain "
            "ijepa, vjepa2, vjepa2-ac or latent."
        )


class Encoder(nn.Module):
    """Tokens of pictures (I-JEPA) or clips: those of all tubelets (V-JEPA 2), of all frames' patches, each frame a clip
    of its own (V-JEPA 2-AC), or one a frame (latent worlds). ValueError: the model has no encoder."""

    def __init__(self, config: Any, model: nn.Module, name: str = "The model"):
        super().__init__()
        require_family(config.family, name)
        self.config, self.name = config, name
        whole = config.family not in AVERAGED
        self.part = cast(nn.Module, model if whole else model.target_encoder)

    @property
    def frames(self) -> int:
        """Frames of a clip, as in pretraining; 1 for pictures."""
        return int(getattr(self.config, "frames", 1))

    @property
    def size(self) -> int:
        """Height and width of the frames, in pixels."""
        return int(self.config.encoder.size)

    @property
    def channels(self) -> int:
        return int(self.config.encoder.channels)

    @property
    def width(self) -> int:
        """Features of a token."""
        latent = getattr(self.config, "latent", 0)
        return int(latent or self.config.encoder.width)

    @property
    def single(self) -> bool:
        """Whether it sees single pictures."""
        return self.frames == 1

    def forward(self, frames: UInt8[Tensor, "B T S S C"]) -> Float[Tensor, "B N D"]:
        """Tokens of a batch as datasets give it."""
        clips, part = prepared(frames, self.channels), cast(Any, self.part)
        if self.config.family in AVERAGED:
            tokens: Tensor = part(clips[:, :, 0] if self.config.family == "ijepa" else clips)
            return tokens
        return cast(Tensor, part.encode(clips).flatten(1, -2))

    def frozen(self) -> "Encoder":
        """Itself, in evaluation mode and without gradients."""
        return self.eval().requires_grad_(False)

    @property
    def tunable(self) -> bool:
        """Whether it can be trained on labels."""
        return self.config.family in AVERAGED

    @property
    def sees_order(self) -> bool:
        """Whether its tokens depend on the order of frames; latent worlds and V-JEPA 2-AC see each frame alone."""
        return not self.single and self.config.family in AVERAGED

    def checksum(self) -> str:
        """SHA-256 of the names and values of its parameters and buffers, in hexadecimal."""
        digest = hashlib.sha256()
        for name, value in sorted(as_arrays(self.part).items()):
            digest.update(f"{name} {value.dtype} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    def require_tunable(self) -> None:
        """ValueError: it cannot be trained on labels."""
        if not self.tunable:
            raise ValueError(
                f"{self.name} is a {self.config.family} model; of those that can be probed, I-JEPA and V-JEPA 2 can be "
                "trained on labels: leave --finetune out."
            )

    def trainable(self) -> "Encoder":
        """A copy whose parameters are to be trained. ValueError: it cannot be."""
        self.require_tunable()
        return copy.deepcopy(self).requires_grad_(True)


def untrained(encoder: Encoder, seed: int) -> Encoder:
    """An encoder of the same configuration with the weights that training would begin with."""
    from world_models.families import family_of

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = family_of(encoder.config).build({}, {}, encoder.config)
    device = next(encoder.parameters()).device
    return Encoder(encoder.config, model.to(device).eval(), f"untrained {encoder.name}").frozen()
