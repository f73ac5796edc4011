"""Training an encoder for the task itself: from a checkpoint (fine-tuning) or from nothing (supervised).

Legend: B batch, T frames, S pixels a side, C channels, N examples, K classes.
"""

import math
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from learner.datasets.batches import Batches, Unreadable
from learner.datasets.dataset import Dataset
from learner.probes.attentive import decayed
from learner.probes.encoders import Encoder
from learner.probes.features import Note, labelled, quiet
from learner.schedules import Schedule
from world_models.vit import NORM_EPS


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """End-to-end training."""

    epochs: int = 10
    batch_size: int = 64
    lr: float = 1e-3
    """Learning rate, after a warm-up over a tenth of the updates; it falls to 0 as half a cosine."""
    decay: float = 0.05
    """Weight decay of matrices."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"Training end to end needs {name} of at least 1, not {getattr(self, name)}.")
        if not 0 < self.lr < math.inf or not 0 <= self.decay < math.inf:
            raise ValueError(
                f"Training end to end needs a positive lr and a decay of 0 or more, both finite, got {self.lr} and "
                f"{self.decay}."
            )


class Classifier(nn.Module):
    """An encoder, the mean of its tokens, a norm and a linear layer."""

    def __init__(self, encoder: Encoder, classes: int):
        super().__init__()
        self.encoder = encoder.trainable()
        self.norm = nn.LayerNorm(encoder.width, eps=NORM_EPS)
        self.linear = nn.Linear(encoder.width, classes)

    def forward(self, frames: UInt8[Tensor, "B T S S C"]) -> Float[Tensor, "B K"]:
        return self.linear(self.norm(self.encoder(frames).mean(1)))


def finetune(
    encoder: Encoder, dataset: Dataset, classes: int, config: FinetuneConfig, *, seed: int = 0, threads: int = 2,
    what: str = "fine-tuning", note: Note = quiet, unreadable: Unreadable | None = None,
) -> Classifier:  # fmt: skip
    """A classifier trained on all of the dataset's labels, whose examples may be drawn anew each epoch. The encoder
    given stays as it is. ValueError: a label is none of the classes, or too many examples are unreadable (those are
    counted by `unreadable`)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(encoder, classes)
    device = next(encoder.parameters()).device
    model = model.to(device).train()
    size = min(config.batch_size, len(dataset))
    updates = config.epochs * (len(dataset) // size)
    shape = Schedule(kind="cosine", top=config.lr, warmup=updates // 10)
    optimizer = torch.optim.AdamW(decayed(model, config.decay))
    batches = Batches(dataset, size=size, seed=seed, threads=threads, unreadable=unreadable).after()
    with closing(batches), torch.enable_grad():
        for update in range(1, updates + 1):
            batch = labelled(next(batches), dataset)
            if (most := int(batch["label"].max())) >= classes:
                raise ValueError(
                    f"{dataset.describe()} has the label {most}; the data that is probed has {classes} classes, 0 to "
                    f"{classes - 1}. Give --tuning-data the same classes."
                )
            frames, labels = (torch.from_numpy(np.ascontiguousarray(batch[k])).to(device) for k in ("frames", "label"))
            for group in optimizer.param_groups:
                group["lr"] = shape.at(update, updates)
            optimizer.zero_grad()
            F.cross_entropy(model(frames), labels).backward()
            optimizer.step()
            note(what, update, updates)
    return model.eval()
