"""Probes of an encoder on a labelled dataset, and what to compare them with.

Legend: N examples of training, M of the test, L tokens, D features, K classes.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner.datasets.batches import Unreadable
from learner.datasets.dataset import Dataset
from learner.datasets.subset import Subset
from learner.probes.attentive import AttentiveConfig, attentive_scores, fit_attentive
from learner.probes.encoders import Encoder, untrained
from learner.probes.features import (
    Labelled,
    Note,
    Represent,
    chosen,
    differences,
    pixels,
    pooled,
    quiet,
    read,
    require_classes,
    require_labels,
    shuffled,
    split,
    without_copies,
)
from learner.probes.finetune import FinetuneConfig, finetune
from learner.probes.heads import ATTENTIVE, KINDS, KNN, LINEAR, Head
from learner.probes.knn import knn_scores
from learner.probes.linear import DECAYS, fit_linear

FROZEN, RANDOM, SHUFFLED, PIXELS, DIFFERENCES = "frozen", "random encoder", "shuffled", "raw pixels", "differences"
SUPERVISED, FINETUNED = "supervised", "fine-tuned"
_TOKENS, _MEAN = "tokens", "mean token"


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """What is probed, and how."""

    kinds: tuple[str, ...] = (LINEAR, KNN)
    """Probes of the frozen encoder: `linear`, `attentive`, `knn`."""
    decays: tuple[float, ...] = DECAYS
    """Penalties that the linear probe chooses from."""
    neighbours: int = 20
    """Of kNN."""
    temperature: float = 0.07
    """Of kNN."""
    attentive: AttentiveConfig = field(default_factory=AttentiveConfig)
    validation: float = 0.2
    """Share of the training examples by which penalties and rates are chosen; never by the test."""
    baselines: bool = False
    """Also probe a random encoder, raw pixels and, of clips, frame differences and shuffled frames, and train an
    encoder of the same size from nothing, if it is of a family that can be trained on labels."""
    finetune: bool = False
    """Also train the encoder itself, from its weights."""
    end_to_end: FinetuneConfig = field(default_factory=FinetuneConfig)
    examples: int = 0
    """Training examples at most; 0: all."""
    test_examples: int = 0
    """Test examples at most; 0: all."""
    batch_size: int = 64
    """Examples to encode at once."""
    memory: float = 8.0
    """GB (1e9 bytes) that the tokens of an attentive probe may take."""
    threads: int = 2
    """Threads that read ahead."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.kinds or set(self.kinds) - set(KINDS):
            raise ValueError(f"Probes are of the kinds {', '.join(KINDS)}, got {', '.join(self.kinds) or 'none'}.")
        if not self.decays or not all(0 < decay < math.inf for decay in self.decays):
            raise ValueError(f"A linear probe needs positive and finite penalties, got {self.decays}.")
        if self.neighbours < 1 or not 0 < self.temperature < math.inf:
            raise ValueError(
                f"kNN needs at least 1 neighbour and a positive and finite temperature, got {self.neighbours} and "
                f"{self.temperature}."
            )
        if not 0 < self.validation < 1:
            raise ValueError(f"validation={self.validation} must lie between 0 and 1.")
        if not 0 < self.memory < math.inf:
            raise ValueError(f"memory={self.memory} must be a positive and finite number of GB.")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One score."""

    kind: str
    """`linear`, `attentive`, `knn`, or `end to end`."""
    source: str
    """What the classifier sees: the frozen encoder or what it is compared with."""
    correct: np.ndarray
    """bool `[M]`: which test examples it gets right."""
    chosen: Mapping[str, float] = field(default_factory=dict)
    """What was chosen on the validation part."""
    validation: float | None = None
    """Accuracy there of what was chosen."""
    seconds: float = 0.0
    """CPU seconds of training and scoring, those of the features left out."""
    learned: int | None = None
    """Training examples read; None for saved heads."""
    unreadable: int = 0
    """Examples of training and test that could not be read and were left out."""
    head: Head | None = None
    """Of the frozen encoder."""


def evaluate(
    encoder: Encoder, train: Dataset, test: Dataset, config: ProbeConfig | None = None, note: Note = quiet,
    tuning: Dataset | None = None,
) -> list[Row]:  # fmt: skip
    """Train probes of a frozen encoder on the labels of `train` and score them on `test`, which nothing is chosen by.
    Training end to end sees `tuning` in place of `train`, such as the same examples with random crops, and no more than
    `examples` of them.

    Every draw is a function of the seed. ValueError: there are no labels, too few classes, what a probe would need does
    not fit, or the encoder is to be trained and cannot be.
    """
    config = config or ProbeConfig()
    if config.finetune:
        encoder.require_tunable()
    trains = config.finetune or (config.baselines and encoder.tunable)
    learned = train if tuning is None else tuning
    if trains:
        require_labels(learned, config.seed)
    if trains and config.examples:
        learned = Subset(learned, chosen(learned, config.examples, config.seed))
    device = next(encoder.parameters()).device
    clips = not encoder.single
    plain = {PIXELS: pixels} | ({DIFFERENCES: differences} if clips else {}) if config.baselines else {}
    rows, known = _probed(encoder, train, test, config, note, plain, FROZEN)
    if config.baselines:
        for name in plain:
            rows.append(_counted(_linear(*without_copies(*known, name), name, name, config), *known))
        rows += _probed(untrained(encoder, config.seed), train, test, config, note, {}, RANDOM)[0]
    classes = max(known[0].classes, known[1].classes)
    begun = {SUPERVISED: untrained(encoder, config.seed)} if config.baselines and encoder.tunable else {}
    for name, start in (begun | ({FINETUNED: encoder} if config.finetune else {})).items():
        started, unreadable = time.process_time(), Unreadable(len(learned))
        model = finetune(
            start, learned, classes, config.end_to_end, seed=config.seed, threads=config.threads, what=name, note=note,
            unreadable=unreadable,
        )  # fmt: skip
        found = _read(test, {"scores": model}, config, device, note, f"{name}: test", scored=True)
        row = _row("end to end", name, found.features["scores"], found.labels, started)
        lost = len(unreadable)
        rows.append(replace(row, learned=len(learned) - lost, unreadable=lost + found.unreadable))
    return rows


def score(head: Head, encoder: Encoder, test: Dataset, config: ProbeConfig | None = None, note: Note = quiet) -> Row:
    """A saved head on labelled data. ValueError: the head is for another encoder, or labels are beyond its classes."""
    config = config or ProbeConfig()
    head.require_encoder(encoder)
    device, started = next(encoder.parameters()).device, time.process_time()

    def answers(frames: Tensor) -> Tensor:
        tokens = encoder(frames)
        return head.scores(tokens if head.kind == ATTENTIVE else tokens.mean(1))

    found = _read(test, {"scores": answers}, config, device, note, "test", scored=True)
    if found.classes > head.classes:
        raise ValueError(
            f"{test.describe()} has labels up to {found.classes - 1}; the head knows {head.classes} classes, 0 to "
            f"{head.classes - 1}. Give data with the classes that it was trained on."
        )
    row = _row(head.kind, FROZEN, found.features["scores"], found.labels, started)
    return replace(row, unreadable=found.unreadable)


def _probed(
    encoder: Encoder, train: Dataset, test: Dataset, config: ProbeConfig, note: Note, plain: Mapping[str, Represent],
    source: str,
) -> tuple[list[Row], tuple[Labelled, Labelled]]:  # fmt: skip
    """All kinds of probes of one encoder, and the features of `plain`, read in the same pass."""
    device = next(encoder.parameters()).device
    attends = ATTENTIVE in config.kinds
    key = _TOKENS if attends else _MEAN
    seen = encoder if attends else pooled(encoder)
    compares = config.baselines and source == FROZEN and encoder.sees_order
    shuffles = {SHUFFLED: shuffled(seen, config.seed)} if compares else {}
    known = _read(train, {key: seen, **plain}, config, device, note, f"{source}: train")
    asked = _read(test, {key: seen, **shuffles, **plain}, config, device, note, f"{source}: test", scored=True)
    require_classes(known, asked)
    rows = []
    for kind in config.kinds:
        features = [part if kind == ATTENTIVE or not attends else _averaged(part) for part in (known, asked)]
        name = _TOKENS if kind == ATTENTIVE else _MEAN
        fitted = _KINDS[kind](*features, name, source, config, encoder=encoder, note=note)
        rows.append(fitted)
        if shuffles and fitted.head is not None:
            started = time.process_time()
            rows.append(_row(kind, SHUFFLED, fitted.head.scores(features[1].features[SHUFFLED]), asked.labels, started))
    if source != FROZEN:  # heads are saved of the encoder alone
        rows = [replace(row, head=None) for row in rows]
    return [_counted(row, known, asked) for row in rows], (known, asked)


def _counted(row: Row, train: Labelled, test: Labelled) -> Row:
    return replace(row, learned=len(train), unreadable=train.unreadable + test.unreadable)


def _averaged(part: Labelled) -> Labelled:
    """Mean tokens in place of tokens."""
    kept = {_MEAN: part.features[_TOKENS].mean(1)}
    if SHUFFLED in part.features:
        kept[SHUFFLED] = part.features[SHUFFLED].mean(1)
    return replace(part, features=kept)


def _linear(
    train: Labelled, test: Labelled, name: str, source: str, config: ProbeConfig, encoder: Encoder | None = None,
    note: Note = quiet,
) -> Row:  # fmt: skip
    """The penalty is chosen on the validation part; then the probe learns from all training examples."""
    started, classes = time.process_time(), max(train.classes, test.classes)
    fit, choose = split(train.labels, config.validation, config.seed)
    x, y = train.features[name], train.labels
    note(f"linear probe, {source}", 0, 2)
    tried = fit_linear(x[fit], y[fit], classes, config.decays)(x[choose]).argmax(-1)
    rates = (tried == y[choose]).float().mean(1)
    best = int(rates.argmax())
    note(f"linear probe, {source}", 1, 2)
    final = fit_linear(x, y, classes, config.decays[best : best + 1])
    note(f"linear probe, {source}", 2, 2)
    arrays = {"mean": final.mean, "std": final.std, "weight": final.weight[0], "bias": final.bias[0]}
    head = _head(LINEAR, classes, encoder, {}, arrays=arrays) if encoder else None
    scores = final(test.features[name])[0]
    return _row(LINEAR, source, scores, test.labels, started, {"decay": config.decays[best]}, float(rates[best]), head)


def _knn(
    train: Labelled, test: Labelled, name: str, source: str, config: ProbeConfig, encoder: Encoder, note: Note
) -> Row:  # fmt: skip
    started, classes = time.process_time(), max(train.classes, test.classes)
    options = {"neighbours": config.neighbours, "temperature": config.temperature}
    x = train.features[name]
    scores = knn_scores(x, train.labels, classes, test.features[name], config.neighbours, config.temperature)
    head = _head(KNN, classes, encoder, options, arrays={"features": x, "labels": train.labels})
    return _row(KNN, source, scores, test.labels, started, options, None, head)


def _attentive(
    train: Labelled, test: Labelled, name: str, source: str, config: ProbeConfig, encoder: Encoder, note: Note
) -> Row:  # fmt: skip
    """The pair of rate and decay is chosen on the validation part; the probe is the one that was then scored."""
    started, classes = time.process_time(), max(train.classes, test.classes)
    fit, choose = split(train.labels, config.validation, config.seed)
    x, y = train.features[name], train.labels
    what = f"attentive probe, {source}"
    probes = fit_attentive(x[fit], y[fit], classes, config.attentive, seed=config.seed, note=note, what=what)
    rates = [float((attentive_scores(probe, x[choose]).argmax(1) == y[choose]).float().mean()) for probe in probes]
    best = int(np.argmax(rates))
    lr, decay = config.attentive.grid[best]
    probe = probes[best].requires_grad_(False)
    options = {"depth": config.attentive.depth, "heads": probe.pooler.cross_attention_block.xattn.heads}
    head = _head(ATTENTIVE, classes, encoder, options, probe=probe)
    scores = attentive_scores(probe, test.features[name])
    return _row(ATTENTIVE, source, scores, test.labels, started, {"lr": lr, "decay": decay}, rates[best], head)


_KINDS: Mapping[str, Any] = {LINEAR: _linear, ATTENTIVE: _attentive, KNN: _knn}


def _head(kind: str, classes: int, encoder: Encoder, options: Mapping[str, Any], **parts: Any) -> Head:
    return Head(
        kind=kind, classes=classes, width=encoder.width, frames=encoder.frames, size=encoder.size, options=options,
        **parts,
    )  # fmt: skip


def _row(
    kind: str, source: str, scores: Tensor, labels: Tensor, started: float, chosen: Mapping[str, float] | None = None,
    validation: float | None = None, head: Head | None = None,
) -> Row:  # fmt: skip
    return Row(
        kind=kind, source=source, correct=(scores.argmax(1) == labels).cpu().numpy(), chosen=chosen or {},
        validation=validation, seconds=time.process_time() - started, head=head,
    )  # fmt: skip


def _read(
    dataset: Dataset, represent: Mapping[str, Represent], config: ProbeConfig, device: torch.device, note: Note,
    what: str, scored: bool = False,
) -> Labelled:  # fmt: skip
    """Examples to learn from, or to be `scored`."""
    return read(
        dataset, represent, device=device, examples=config.test_examples if scored else config.examples,
        batch_size=config.batch_size, seed=config.seed, threads=config.threads, memory=config.memory, what=what,
        note=note, limit="--test-examples" if scored else "--examples",
    )  # fmt: skip
