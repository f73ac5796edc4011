"""Makes an environment of a trained Genie: its checkpoint, start frames, and a reward head."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from actors.envs.generated_world import REWARD, STARTS, WORLD, WorldConfig
from deploy.stored.datasets import open_dataset
from learner.datasets.batches import Batches
from learner.datasets.dataset import Clip, Dataset
from learner.datasets.view import View
from learner.pretrain.genie_reward import fit_reward, transitions
from replay.files.whole_file import write_durably
from world_models.checkpoint_files import MODEL_CONFIG, WEIGHTS
from world_models.dataclass_json import to_json
from world_models.genie.genie import Genie
from world_models.loading import load_world_model


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
    dataset = open_dataset(data, clip=Clip(frames=2), view=View(size=genie.config.size), note=note)
    try:
        discrete = _discrete(dataset, seed) if genie.config.real_actions else True
        frames = _starts(dataset, starts, seed)[..., : genie.config.channels]
        head = None
        if rewards:
            head, measured = fit_reward(transitions(genie, dataset, transitions_read, seed), updates, seed)
            note("Reward head, on held-out transitions: " + ", ".join(f"{k} {v:.3f}" for k, v in measured.items()))
    finally:
        dataset.close()
    out.mkdir(parents=True, exist_ok=True)
    for name in (MODEL_CONFIG, WEIGHTS):
        shutil.copyfile(loaded.folder / name, out / name)
    write_durably(out / STARTS, save({"starts": np.ascontiguousarray(frames)}))
    (out / REWARD).unlink(missing_ok=True)
    if head is not None:
        write_durably(out / REWARD, save(head.arrays()))
    document = replace(config, discrete=discrete, data=data, model=str(loaded.folder))
    write_durably(out / WORLD, json.dumps(to_json(document), indent=2).encode())


def _starts(dataset: Dataset, count: int, seed: int) -> np.ndarray:
    """First frames of clips of two: none is the last of its episode."""
    return Batches(dataset, size=count, seed=seed, threads=0).batch(0)["frames"][:, 0]


def _discrete(dataset: Dataset, seed: int) -> bool:
    """Whether all actions are one-hot. ValueError: there are none."""
    batch = Batches(dataset, size=64, seed=seed, threads=0).batch(0)
    if "actions" not in batch:
        raise ValueError(f"The world was trained with real actions, but {dataset.describe()} has none.")
    actions = batch["actions"]
    return bool(np.isin(actions, (0, 1)).all() and (actions.sum(-1) == 1).all())
