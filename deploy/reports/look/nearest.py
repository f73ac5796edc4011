"""The nearest examples of queries, by features and by pixels, as a picture.

Legend: Q queries, M examples, T frames, S pixels a side, C channels, D features.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from deploy.reports.look.pictures import Found, neighbours
from learner.looking.neighbours import nearest_by_cosine
from learner.probes.features import pixels
from replay.counted import counted

COUNT = 5
"""Neighbours of each query."""
BANK = 2000
"""Examples among which they are looked for, at most."""


@dataclass
class Bank:
    """Examples with their features."""

    pictures: list[Tensor] = field(default_factory=list)
    """uint8 `[m S S C]` each."""
    features: list[Tensor] = field(default_factory=list)
    """`[m D]` each."""
    raw: list[Tensor] = field(default_factory=list)
    """Their pixels, `[m P]` each."""
    labels: list[Tensor] = field(default_factory=list)

    def add(self, frames: Tensor, features: Tensor, label: Tensor | None = None) -> None:
        """Examples `[m T S S C]`, of which the middle frame is shown."""
        self.pictures.append(frames[:, frames.shape[1] // 2].cpu())
        self.features.append(features.float().flatten(1).cpu())
        self.raw.append(pixels(frames).flatten(1).cpu())
        if label is not None:
            self.labels.append(label.cpu())

    def __len__(self) -> int:
        return sum(map(len, self.pictures))


def nearest(queries: Bank, bank: Bank, title: str, what: str) -> Found:
    """Pictures of the bank that equal a query pixel by pixel do not count."""
    asked, known = ({name: torch.cat(parts) for name, parts in vars(one).items() if parts} for one in (queries, bank))
    # By products of matrices, the default, the distance of equal pictures is not 0.
    same = torch.cdist(asked["raw"], known["raw"], compute_mode="donot_use_mm_for_euclid_dist") < 1e-6
    if same.all(1).any():
        raise ValueError(
            f"All {len(bank)} examples equal a query, which has no neighbours then; give --data with more."
        )
    found: list[dict[str, Any]] = []
    measured: dict[str, dict[str, Any]] = {}
    for name in ("features", "raw"):
        similarity, which = nearest_by_cosine(asked[name], known[name], COUNT, same)
        labels = known["labels"][which] if "labels" in known else None
        rows = []
        for query, (near, places) in enumerate(zip(similarity.tolist(), which.tolist(), strict=True)):
            texts = [f"{value:.2f}" for value in near]
            if labels is not None:
                texts = [f"{text}  ·  {int(y)}" for text, y in zip(texts, labels[query], strict=True)]
            rows.append([(known["pictures"][place].numpy(), text) for place, text in zip(places, texts, strict=True)])
        found.append({"rows": rows})
        measured[name] = {"similarity": [[round(value, 4) for value in near] for near in similarity.tolist()]}
        if labels is not None and "labels" in asked:
            measured[name]["same_class"] = float((labels == asked["labels"][:, None]).float().mean())
    count = len(found[0]["rows"][0])
    note = f"of {counted(len(bank), what)}, by cosine similarity of centred features, and of centred pixels; below each"
    note += " the similarity" + (" and the class" if "labels" in known else "")
    numbers = {"features": measured["features"], "pixels": measured["raw"], "examples": len(bank)}
    return numbers, {"neighbours.png": neighbours(asked["pictures"].numpy(), found, title, note, count)}


def filled(batches: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> Bank:
    """A bank of frames, their features and labels."""
    bank = Bank()
    for frames, features, label in batches:
        bank.add(frames, features, label)
    return bank
