"""How Genie's tokenizer, latent action model and dynamics are trained, one after another.

Legend: B batch (all processes together), T frames, S pixels a side, C channels, N tokens of a frame.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from learner.pretrain.objective import Batch
from learner.video_quality.evaluation import evaluate
from learner.video_quality.latent_action import latent_action_measures
from learner.video_quality.tokenizer import tokenizer_measures
from world_models.frames import with_channels
from world_models.genie.config import GenieConfig, LatentActionConfig, TokenizerConfig
from world_models.genie.genie import Genie
from world_models.genie.latent_action import LatentActionModel
from world_models.genie.pixels import as_unit
from world_models.genie.tokenizer import VideoTokenizer


class TokenizerObjective:
    """Trivial: each clip's mean colour."""

    averages = False
    apart = ("commitment",)

    def __init__(self, config: TokenizerConfig):
        self.model = VideoTokenizer(config)

    def draw(self, batch_size: int, generator: torch.Generator) -> None:
        return None

    def inputs(self, batch: Batch, drawn: None, rows: slice) -> tuple[Tensor]:
        return (_frames(batch, self.model.config.channels),)

    def trivial_loss(self, batch: Batch) -> Tensor:
        pixels = as_unit(_frames(batch, self.model.config.channels))
        return (pixels - pixels.mean((1, 2, 3), keepdim=True)).square().mean((1, 2, 3, 4))

    def represent(self, frames: Tensor) -> None:
        return None

    def measures(self, batches: Iterable[Batch]) -> dict[str, float]:
        return tokenizer_measures(self.model, _colored(batches, self.model.config.channels))


class LatentActionObjective:
    """Trivial: the next frame equals the last one. Recorded actions are not used."""

    averages = False
    apart = ("inference",)

    def __init__(self, config: LatentActionConfig):
        self.model = LatentActionModel(config)

    def draw(self, batch_size: int, generator: torch.Generator) -> Tensor:
        return torch.rand(batch_size, self.model.config.frames - 1, generator=generator)

    def inputs(self, batch: Batch, drawn: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        frames = _frames(batch, self.model.config.channels)
        return frames, drawn[rows, : frames.shape[1] - 1].to(frames.device)

    def trivial_loss(self, batch: Batch) -> Tensor:
        pixels = as_unit(_frames(batch, self.model.config.channels))
        return pixels.diff(dim=1).square().mean((1, 2, 3, 4))

    def represent(self, frames: Tensor) -> None:
        return None

    def measures(self, batches: Iterable[Batch]) -> dict[str, float]:
        return latent_action_measures(self.model, _colored(batches, self.model.config.channels))


class MaskNoise(NamedTuple):
    """What masks are made of: `[B 1 1]` and `[B T N]`, from 0 to 1."""

    rates: Tensor
    uniform: Tensor


class DynamicsObjective:
    """Masks the share of tokens that MaskGIT meets, in all frames but the first. Trivial: all codes alike."""

    averages = False
    apart = ()

    def __init__(self, config: GenieConfig):
        self.model = Genie(config)

    def draw(self, batch_size: int, generator: torch.Generator) -> MaskNoise:
        c = self.model.config
        rates = torch.rand(batch_size, 1, 1, generator=generator)
        return MaskNoise(rates, torch.rand(batch_size, c.frames, c.tokenizer.grid**2, generator=generator))

    def inputs(self, batch: Batch, drawn: MaskNoise, rows: slice) -> tuple[Tensor, ...]:
        frames, low = _frames(batch, self.model.config.channels), self.model.config.dynamics.mask_low
        rates, uniform = (part[rows].to(frames.device) for part in drawn)
        masked = uniform[:, : frames.shape[1]] < low + (1 - low) * rates
        masked[:, 0] = False
        return frames, masked, *([batch["actions"]] if self.model.config.real_actions else [])

    def trivial_loss(self, batch: Batch) -> Tensor:
        frames = batch["frames"]
        return torch.full((len(frames),), math.log(self.model.dynamics.codes), device=frames.device)

    def represent(self, frames: Tensor) -> None:
        return None

    def measures(self, batches: Iterable[Batch]) -> dict[str, float]:
        """On the first batch alone: frames take many steps to generate."""
        found = evaluate(self.model, islice(_colored(batches, self.model.config.channels), 1), horizons=(1,))
        return {name: value for name, value in found.items() if isinstance(value, float)}


def _frames(batch: Batch, channels: int) -> Tensor:
    return with_channels(batch["frames"], channels, "model.channels")


def _colored(batches: Iterable[Batch], channels: int) -> Iterator[Batch]:
    return ({**batch, "frames": _frames(batch, channels)} for batch in batches)
