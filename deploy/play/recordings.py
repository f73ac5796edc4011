"""What worlds begin with: pictures, and recordings, whose true continuation is known.

Legend: L frames of a recording, S pixels a side, C channels, A numbers of an action.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deploy.stored.datasets import open_dataset
from deploy.stored.pretraining_data import PretrainingData
from deploy.wiring.config_file import read_config
from deploy.wiring.pretraining import DataConfig, GenieDynamicsRun
from learner.datasets.dataset import Clip, Dataset, Example, UnreadableError
from learner.datasets.keys import Keys
from learner.datasets.view import View
from world_models.checkpoint_files import run_of
from world_models.frames import with_channels
from world_models.genie.genie import Genie

MOST = 12  # recordings that a player may choose from
LENGTHS = (256, 128, 64, 32, 16, 8, 4, 2, 1)  # frames of a recording: as many as what was given allows
_PARTS = 4  # recordings from each example, if there are few of them
_CONTEXT = 4  # frames that a world begins with, if its recording is much longer
_REMEDY = "name a picture, a video, a recording or a run: --start IMAGE, --start generated:block_world"


@dataclass
class Recording:
    """True frames."""

    frames: Tensor
    """uint8 `[L S S C]`; a picture has one."""
    actions: Tensor | None = None
    """Those between the frames: vectors `[L-1 A]` if they are recorded, numbers `[L-1]` once they are inferred."""

    @property
    def begins(self) -> int:
        """The newest frame that a world knows when it begins, unless another is chosen."""
        return min(_CONTEXT, 1 + len(self.frames) // 4) - 1

    @torch.inference_mode()
    def actions_for(self, model: Genie) -> Tensor:
        """The actions between the frames, inferred when they are first needed, in clips of the model's length."""
        if self.actions is None:
            clip, parts = model.config.frames, [torch.zeros(0, dtype=torch.int64, device=self.frames.device)]
            for first in range(0, len(self.frames) - 1, clip - 1):
                parts.append(model.infer_actions(self.frames[None, first : first + clip])[0])
            self.actions = torch.cat(parts)
        return self.actions


def read_recordings(model: Genie, folder: Path, start: str = "", seed: int = 0) -> list[Recording]:
    """At most `MOST` of what `start` names, by default of the held-out data of the run that the checkpoint in `folder`
    belongs to. Frames are the largest squares in their middle, resized. ValueError: there are none, or no key could
    stand for the actions between them."""
    config = _run_config(folder)
    rng = np.random.default_rng(seed)
    if start:
        found = _given(model, start, config, rng)
    elif config:
        try:
            with PretrainingData(config) as data:
                found = _different(data.held_out, rng)
        except ValueError as error:
            raise ValueError(f"The data of the run cannot be used: {error} Instead, {_REMEDY}.") from error
    else:
        raise ValueError(f"{folder} belongs to no run of nexus pretrain, whose data could be used; {_REMEDY}.")
    return [_recording(model, example) for example in found]


def _run_config(folder: Path) -> GenieDynamicsRun | None:
    try:
        return read_config(GenieDynamicsRun, run_of(folder))
    except ValueError:
        return None


def _given(model: Genie, start: str, config: GenieDynamicsRun | None, rng: np.random.Generator) -> list[Example]:
    """Examples of what the user names, as long as they can be."""
    data = config.data if config else DataConfig()
    keys = Keys(frames=data.frames, actions=data.actions, conditions=bool(model.config.real_actions))
    split = "test" if start.startswith("generated:") else "train"
    for length in LENGTHS:
        clip = Clip(frames=length, stride=data.stride, fps=data.fps)
        try:
            with closing(open_dataset(start, clip, View(size=model.config.size), keys, split, data.task)) as dataset:
                return _different(dataset, rng)
        except ValueError as error:
            refused = error
    raise ValueError(f"--start {start} cannot be used: {refused}") from refused


def _different(dataset: Dataset, rng: np.random.Generator) -> list[Example]:
    """Examples from all over the dataset; of a few long recordings, several parts. UnreadableError: of all of them."""
    count, size = min(MOST, _PARTS * len(dataset)), len(dataset)
    found: dict[bytes, Example] = {}
    refused: UnreadableError | None = None
    for number in range(count):
        try:
            example = dataset.example(number * size // count, rng)
        except UnreadableError as error:
            refused = error
            continue
        if "frames" not in example:
            raise ValueError(f"{dataset.describe()} has no pictures")
        found.setdefault(example["frames"].tobytes(), example)
    if refused and not found:
        raise refused
    return list(found.values())


def _recording(model: Genie, example: Example) -> Recording:
    device = next(model.parameters()).device
    clip = torch.from_numpy(example["frames"].copy()).to(device)[None]
    frames = with_channels(clip, model.config.channels, "model.channels")[0]
    if not model.config.real_actions:
        return Recording(frames)
    if len(frames) > 1 and "actions" not in example:
        frames = frames[:1]  # what led to the others is unknown
    recorded = example.get("actions", np.zeros((0, model.config.actions), np.float32))
    if not (np.isin(recorded, (0, 1)).all() and (recorded.sum(1) == 1).all()):
        raise ValueError(
            "The actions of this world are vectors of numbers, which no key stands for; nexus play takes worlds of "
            "latent actions or of discrete ones."
        )
    return Recording(frames, torch.from_numpy(recorded.copy()).to(device))
