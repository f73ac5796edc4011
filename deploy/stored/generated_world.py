"""Makes an environment of a trained Genie: its checkpoint, start frames, and a reward head."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from actors.envs.generated_world import REWARD, STARTS, WORLD, WorldConfig
from deploy.stored.datasets import open_dataset
from deploy.wiring.config_file import read_config
from deploy.wiring.pretraining import DataConfig, GenieDynamicsRun
from learner.datasets.batches import Batches
from learner.datasets.dataset import Clip, Dataset
from learner.datasets.keys import Keys
from learner.datasets.subset import Subset, held_out, recordings_of
from learner.datasets.view import View
from learner.pretrain.genie_reward import fit_reward, measure_reward, transitions
from replay.files.whole_file import write_durably
from world_models.checkpoint_files import MANIFEST, MODEL_CONFIG, WEIGHTS, run_of
from world_models.dataclass_json import to_json
from world_models.frames import with_channels
from world_models.genie.genie import Genie
from world_models.loading import load_world_model

HELD_OUT = 0.1
"""Share of the recordings that a reward is measured on."""


def make_world(
    path: Path, data: str, out: Path, config: WorldConfig, *, starts: int = 256, rewards: bool = False,
    transitions_read: int = 8192, updates: int = 600, seed: int = 0, note: Callable[[str], None] = print,
) -> None:  # fmt: skip
    """Write the world of the Genie at `path` to `out`, with `starts` frames of `data` to begin with and, if `rewards`,
    a reward head fitted to its rewards.

    ValueError: there is no Genie, or the data do not fit it.
    """
    loaded = load_world_model(path)
    genie = loaded.model
    if not isinstance(genie, Genie):
        raise ValueError(f"{loaded.folder} holds a model of family {loaded.document.family.name!r}, and no world; name "
                         "a run of nexus pretrain genie.")  # fmt: skip
    seen = _seen(loaded.folder)
    keys = Keys(frames=seen.frames, actions=seen.actions, conditions=bool(genie.config.real_actions))
    clip, view = Clip(frames=2, stride=seen.stride, fps=seen.fps), View(size=genie.config.size)
    dataset = open_dataset(data, clip, view, keys, task=seen.task, note=note)
    try:
        discrete = _discrete(dataset, seed) if genie.config.real_actions else True
        frames = with_channels(_starts(dataset, starts, seed), genie.config.channels, "model.channels")
        head = None
        if rewards:
            kept, out_of_it = _parts(dataset, seed)
            head = fit_reward(transitions(genie, kept, transitions_read, seed), updates, seed)
            measured = measure_reward(head, transitions(genie, out_of_it or kept, transitions_read // 8 + 1, seed + 1))
            where = "held-out recordings" if out_of_it else "the recordings it was fitted to"
            note(f"Reward head, on {where}: " + ", ".join(f"{name} {value:.3f}" for name, value in measured.items()))
    finally:
        dataset.close()
    document = replace(config, discrete=discrete, data=data, model=str(loaded.folder))
    files = {name: (loaded.folder / name).read_bytes() for name in (MODEL_CONFIG, WEIGHTS)}
    files[STARTS] = save({"starts": np.ascontiguousarray(frames[:, 0])})
    if head is not None:
        files[REWARD] = save(head.arrays())
    out.mkdir(parents=True, exist_ok=True)
    for stale in (WORLD, MANIFEST, REWARD):  # half of a new world is none
        (out / stale).unlink(missing_ok=True)
    for name, content in files.items():
        write_durably(out / name, content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    write_durably(out / MANIFEST, json.dumps(sums, indent=2).encode())
    write_durably(out / WORLD, json.dumps(to_json(document), indent=2).encode())


def _seen(folder: Path) -> DataConfig:
    """What the run of a checkpoint saw of its data; the defaults if it belongs to none."""
    try:
        return read_config(GenieDynamicsRun, run_of(folder)).data
    except ValueError:
        return DataConfig()


def _parts(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset | None]:
    """The recordings to fit a reward to, and others to measure it on; none where nothing can be held out."""
    if dataset.live:
        return dataset, None
    kept, out = held_out(recordings_of(dataset), HELD_OUT, seed)
    return (Subset(dataset, kept), Subset(dataset, out)) if len(out) else (dataset, None)


def _starts(dataset: Dataset, count: int, seed: int) -> Tensor:
    """First frames of clips of two, which are not the last of their episodes: clips `[N 1 S S C]`."""
    return torch.as_tensor(Batches(dataset, size=count, seed=seed, threads=0).batch(0)["frames"][:, :1])


def _discrete(dataset: Dataset, seed: int) -> bool:
    """Whether all actions are one-hot. ValueError: there are none."""
    batch = Batches(dataset, size=64, seed=seed, threads=0).batch(0)
    if "actions" not in batch:
        raise ValueError(f"The world was trained with real actions, but {dataset.describe()} has none.")
    actions = batch["actions"]
    return bool(np.isin(actions, (0, 1)).all() and (actions.sum(-1) == 1).all())
