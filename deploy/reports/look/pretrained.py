"""Looks into models that learn from images or clips. Legend: B examples, T frames, S pixels a side, C channels."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from deploy.reports.look import pictures
from deploy.reports.look.data import Examples
from deploy.reports.look.nearest import BANK, filled, nearest
from deploy.reports.look.pictures import Found
from learner.looking.errors import ErrorMaps, masked_errors, next_frame_errors, next_picture_errors
from learner.looking.futures import Bank, Futures, features_ahead, latents_ahead, pictures_ahead
from learner.looking.layers import patch_layers
from learner.probes.encoders import Encoder
from learner.probes.features import Note, pooled
from replay.counted import counted
from world_models.frames import prepared
from world_models.genie.genie import Genie
from world_models.jepa.ijepa import IJEPA
from world_models.jepa.vjepa2 import VJEPA2
from world_models.jepa.vjepa2_ac import VJEPA2AC
from world_models.latent.latent_world import LatentWorld

MEASURED = 32
"""Examples over which errors are averaged, at most."""
LOOKED_UP = 4000
"""Real frames which imagined latents are looked up among, at most."""
_ROOM = 5e8
"""Bytes that their latents may take."""
SHORT = {"ijepa": "I-JEPA", "vjepa2": "V-JEPA 2", "vjepa2_ac": "V-JEPA 2-AC", "genie": "Genie",
         "latent_world": "latent world"}  # fmt: skip


class PretrainedLook:
    """Pictures of one model; each method returns numbers and figures."""

    def __init__(self, model: nn.Module, examples: Examples, count: int, seed: int, note: Note):
        self.model, self.examples, self.count, self.seed, self.note = model, examples, count, seed, note
        self.config: Any = cast(Any, model).config
        self.device = next(model.parameters()).device
        self.title = SHORT[self.config.family]

    @cached_property
    def batch(self) -> dict[str, Tensor]:
        """What is measured; the first `count` are shown."""
        return self.examples.batch(max(self.count, MEASURED), self.seed, self.device)

    @property
    def shown(self) -> Tensor:
        return self.batch["frames"][: self.count]

    @property
    def generator(self) -> torch.Generator:
        """The same for each picture, whichever are drawn."""
        return torch.Generator().manual_seed(self.seed)

    def pca(self) -> Found:
        frames, steps = self.shown, list[int]()
        if isinstance(self.model, LatentWorld | VJEPA2AC):  # each frame is encoded alone
            steps = pictures.columns(frames.shape[1])
            frames = frames[:, steps]
        return pictures.pca(frames.cpu().numpy(), patch_layers(self.model, frames), self.title, steps)

    def heat(self) -> Found:
        what = f"error of each patch of the next frame, predicted with {self._acted()}"
        if isinstance(self.model, IJEPA | VJEPA2):
            what = "error of each patch when it is hidden, mean over masks"
        title = f"{self.title}: where predictions fail"
        return pictures.heat(self.shown.cpu().numpy(), self._errors(), title, what)

    def _errors(self) -> ErrorMaps:
        frames, actions, states = self._taken()
        if isinstance(self.model, IJEPA | VJEPA2):
            return masked_errors(self.model, frames, self.generator, self.note)
        if isinstance(self.model, VJEPA2AC):
            return next_frame_errors(self.model, frames, actions, states)
        generator = torch.Generator(self.device).manual_seed(self.seed)
        return next_picture_errors(cast(Genie, self.model), frames, actions, generator, self.note)

    def _taken(self) -> tuple[Tensor, Any, Tensor | None]:
        """Frames, actions (Genie's own unless it was trained with real ones) and states."""
        frames, actions = self.batch["frames"], self.batch.get("actions")
        if isinstance(self.model, Genie) and not self.config.real_actions:
            actions = self.model.infer_actions(frames)
        return frames, actions, self.batch["states"] if getattr(self.config, "state", 0) else None

    def _acted(self) -> str:
        own = isinstance(self.model, Genie) and not self.config.real_actions
        return "the actions that it infers" if own else "the true actions"

    def neighbours(self) -> Found:
        def seen(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
            frames = batch["frames"]
            if not isinstance(self.model, IJEPA | VJEPA2):  # frames of one clip are much alike
                middle = frames.shape[1] // 2
                frames = frames[:, middle : middle + 1]
            with torch.no_grad():
                return frames, self._pooled(frames), batch.get("label")

        queries = filled([seen({key: value[: self.count] for key, value in self.batch.items()})])
        bank = filled(seen(batch) for batch in self._others(BANK, "neighbours"))
        whole = isinstance(self.model, IJEPA | VJEPA2)
        what = "clip" if whole and self.shown.shape[1] > 1 else "frame" if not whole else "image"
        return nearest(queries, bank, f"{self.title}: nearest neighbours", what)

    def _pooled(self, frames: Tensor) -> Tensor:
        if isinstance(self.model, Genie):
            layers = patch_layers(self.model, frames, most=1)
            return next(iter(layers.values())).flatten(1, -2).mean(1)
        return pooled(Encoder(self.config, self.model))(frames)

    def _others(self, count: int, what: str) -> Iterator[dict[str, Tensor]]:
        examples = self.examples.without_shown(self.count, self.seed)
        done, count = 0, min(count, len(examples.reference))
        for batch in examples.others(count, self.seed, self.device):
            done += len(batch["frames"])
            self.note(what, done, count)
            yield batch

    def rollout(self) -> Found:
        futures = self._futures()
        note = f"after {counted(futures.context, 'real frame')}, with {self._acted()}"
        if futures.looked_up:
            note += f"; it draws none: shown are the nearest of {futures.looked_up:,} real frames by their latents"
        return pictures.rollout(futures, f"{self.title}: imagined and real", note)

    def _futures(self) -> Futures:
        frames, actions, states = self._taken()
        if isinstance(self.model, Genie):
            generator = torch.Generator(self.device).manual_seed(self.seed)
            return pictures_ahead(self.model, frames, actions, generator, self.count)
        if isinstance(self.model, VJEPA2AC):
            return features_ahead(self.model, frames, actions, states, self._bank(), self.count)
        return latents_ahead(cast(LatentWorld, self.model), frames, actions, self._bank(), self.count)

    @torch.no_grad()
    def _bank(self) -> Bank:
        """Real frames of other clips, and their latents."""
        model, channels = cast(VJEPA2AC | LatentWorld, self.model), self.config.encoder.channels
        frames, latents, room = [], [], LOOKED_UP
        for batch in self._others(LOOKED_UP, "real frames"):
            clips = batch["frames"][:, :: max(1, batch["frames"].shape[1] // 3)]  # neighbours in time are alike
            found = model.encode(prepared(clips, channels)).flatten(0, 1)
            frames.append(clips.flatten(0, 1))
            latents.append(found)
            room = min(LOOKED_UP, int(_ROOM / (4 * found[0].numel())))
            if sum(map(len, frames)) >= room:
                break
        return torch.cat(frames)[:room], torch.cat(latents)[:room]
