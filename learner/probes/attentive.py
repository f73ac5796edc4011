"""Attentive probes (V-JEPA 2, section 5 and appendix): one for each pair of learning rate and weight decay, all trained
side by side on the same tokens.

Legend: N examples, L tokens of an example, D width, G probes, K classes.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from learner.probes.features import Note, quiet
from learner.schedules import Schedule
from world_models.jepa.probe import AttentiveProbe


@dataclass(frozen=True, kw_only=True)
class AttentiveConfig:
    """An attentive probe and its training."""

    depth: int = 4
    """Blocks: the last is cross-attention, those before it self-attention; 4 as published."""
    heads: int = 0
    """Attention heads; 0: 16 as published, or the most below that divide the width."""
    epochs: int = 20
    batch_size: int = 64
    lrs: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Learning rates to choose from, after a warm-up over a tenth of the updates; they fall to 0 as half a cosine."""
    decays: tuple[float, ...] = (0.01, 0.4)
    """Weight decays to choose from."""

    def __post_init__(self) -> None:
        for name in ("depth", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"An attentive probe's {name} must be at least 1, not {getattr(self, name)}.")
        rates = self.lrs and all(0 < lr < math.inf for lr in self.lrs)
        if not rates or not self.decays or not all(0 <= decay < math.inf for decay in self.decays):
            raise ValueError(
                f"An attentive probe needs positive learning rates, got {self.lrs}, and weight decays of 0 or more, "
                f"got {self.decays}, all finite."
            )

    @property
    def grid(self) -> list[tuple[float, float]]:
        """Pairs of learning rate and weight decay."""
        return list(product(self.lrs, self.decays))

    def built(self, width: int, classes: int) -> AttentiveProbe:
        """A fresh probe. ValueError: its heads do not divide the width."""
        heads = self.heads or max(h for h in range(1, 17) if width % h == 0)
        return AttentiveProbe(width, classes, heads, self.depth)


def fit_attentive(
    tokens: Float[Tensor, "N L D"], labels: Int[Tensor, " N"], classes: int, config: AttentiveConfig, *, seed: int = 0,
    note: Note = quiet, what: str = "attentive probe",
) -> list[AttentiveProbe]:  # fmt: skip
    """A probe for each pair of the grid, in its order. All begin with the same weights, and see the same batches."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = config.built(tokens.shape[-1], classes).to(tokens.device)
    probes = [copy.deepcopy(first) for _ in config.grid]
    rates = [lr for lr, _ in config.grid]
    optimizer = torch.optim.AdamW(
        [group for probe, (_, decay) in zip(probes, config.grid, strict=True) for group in decayed(probe, decay)]
    )
    size = min(config.batch_size, len(tokens))
    updates = config.epochs * (len(tokens) // size)
    shape = Schedule(kind="cosine", top=1.0, warmup=updates // 10)
    with torch.enable_grad():
        for update, rows in enumerate(orders(len(tokens), size, config.epochs, seed), 1):
            index = torch.from_numpy(rows).to(tokens.device)
            batch, truth = tokens[index].float(), labels[index]
            now = shape.at(update, updates)
            for number, group in enumerate(optimizer.param_groups):
                group["lr"] = rates[number // 2] * now
            optimizer.zero_grad()
            torch.stack([F.cross_entropy(probe(batch), truth) for probe in probes]).sum().backward()
            optimizer.step()
            note(what, update, updates)
    return [probe.eval() for probe in probes]


def decayed(module: nn.Module, decay: float) -> list[dict[str, object]]:
    """Two groups of parameters: matrices, which decay, and biases and gains, which do not."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def orders(count: int, size: int, epochs: int, seed: int) -> Sequence[np.ndarray]:
    """Numbers of the examples of each batch: every epoch in a new order, the last incomplete batch left out."""
    rng = np.random.default_rng([4, seed])
    return [rows for _ in range(epochs) for rows in rng.permutation(count)[: count // size * size].reshape(-1, size)]


@torch.no_grad()
def attentive_scores(
    probe: AttentiveProbe, tokens: Float[Tensor, "N L D"], batch_size: int = 256
) -> Float[Tensor, "N K"]:
    """Logits of tokens, a batch at a time."""
    return torch.cat([probe(part.float()) for part in tokens.split(batch_size)])
