"""Probes of an encoder on a labelled dataset, and what to compare them with.

Legend: N examples of training, M of the test, L tokens, D features, K classes.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
    encoder of the same size from nothing."""
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
        if not self.decays or min(self.decays) <= 0:
            raise ValueError(f"A linear probe needs positive penalties, got {self.decays}.")
        if self.neighbours < 1 or not self.temperature > 0:
            raise ValueError(
                f"kNN needs at least 1 neighbour and a positive temperature, got {self.neighbours} and "
                f"{self.temperature}."
            )
        if not 0 < self.validation < 1:
            raise ValueError(f"validation={self.validation} must lie between 0 and 1.")


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
    head: Head | None = None
    """Of the frozen encoder."""


def evaluate(
    encoder: Encoder, train: Dataset, test: Dataset, config: ProbeConfig | None = None, note: Note = quiet,
    tuning: Dataset | None = None,
) -> list[Row]:  # fmt: skip
    """Train probes of a frozen encoder on the labels of `train` and score them on `test`, which nothing is chosen by.
    Training end to end sees `tuning` in place of `train`, such as the same examples with random crops.

    Every draw is a function of the seed. ValueError: there are no labels, too few classes, or what a probe would need
    does not fit.
    """
    config = config or ProbeConfig()
    device = next(encoder.parameters()).device
    clips = not encoder.single
    plain = {PIXELS: pixels} | ({DIFFERENCES: differences} if clips else {}) if config.baselines else {}
    rows, known = _probed(encoder, train, test, config, note, plain, FROZEN)
    if config.baselines:
        for name in plain:
            rows.append(_linear(*without_copies(known[0], known[1], name), name, name, config))
        rows += _probed(untrained(encoder, config.seed), train, test, config, note, {}, RANDOM)[0]
    classes = max(known[0].classes, known[1].classes)
    begun = {SUPERVISED: untrained(encoder, config.seed)} if config.baselines else {}
    learned = tuning or train
    if config.examples:
        learned = Subset(learned, chosen(learned, config.examples, config.seed))
    for name, start in (begun | ({FINETUNED: encoder} if config.finetune else {})).items():
        started = time.process_time()
        model = finetune(
            start,
            tuning or train,
            classes,
            config.end_to_end,
            seed=config.seed,
            threads=config.threads,
            what=name,
            note=note,
        )
        found = _read(test, {"scores": model}, config, config.test_examples, device, note, f"{name}: test")
        rows.append(_row("end to end", name, found.features["scores"], found.labels, started))
    return rows


def score(head: Head, encoder: Encoder, test: Dataset, config: ProbeConfig | None = None, note: Note = quiet) -> Row:
    """A saved head on labelled data. ValueError: the head is for another encoder, or labels are beyond its classes."""
    config = config or ProbeConfig()
    head.require_encoder(encoder)
    device, started = next(encoder.parameters()).device, time.process_time()

    def answers(frames: Tensor) -> Tensor:
        tokens = encoder(frames)
        return head.scores(tokens if head.kind == ATTENTIVE else tokens.mean(1))

    found = _read(test, {"scores": answers}, config, config.test_examples, device, note, "test")
    if found.classes > head.classes:
        raise ValueError(
            f"{test.describe()} has labels up to {found.classes - 1}; the head knows {head.classes} classes, 0 to "
            f"{head.classes - 1}. Give data with the classes that it was trained on."
        )
    return _row(head.kind, FROZEN, found.features["scores"], found.labels, started)


def _probed(
    encoder: Encoder, train: Dataset, test: Dataset, config: ProbeConfig, note: Note, plain: Mapping[str, Represent],
    source: str,
) -> tuple[list[Row], tuple[Labelled, Labelled]]:  # fmt: skip
    """All kinds of probes of one encoder, and the features of `plain`, read in the same pass."""
    device = next(encoder.parameters()).device
    attends = ATTENTIVE in config.kinds
    key = _TOKENS if attends else _MEAN
    seen = encoder if attends else pooled(encoder)
    shuffles = {SHUFFLED: shuffled(seen, config.seed)} if config.baselines and source == FROZEN and plain else {}
    if encoder.single:
        shuffles = {}
    known = _read(train, {key: seen, **plain}, config, config.examples, device, note, f"{source}: train")
    asked = _read(test, {key: seen, **shuffles, **plain}, config, config.test_examples, device, note, f"{source}: test")
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
        rows = [Row(**{**vars(row), "head": None}) for row in rows]
    return rows, (known, asked)


def _averaged(part: Labelled) -> Labelled:
    """Mean tokens in place of tokens."""
    kept = {_MEAN: part.features[_TOKENS].mean(1)}
    if SHUFFLED in part.features:
        kept[SHUFFLED] = part.features[SHUFFLED].mean(1)
    return Labelled(features=kept, labels=part.labels, classes=part.classes)


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
    dataset: Dataset, represent: Mapping[str, Represent], config: ProbeConfig, examples: int, device: torch.device,
    note: Note, what: str,
) -> Labelled:  # fmt: skip
    return read(
        dataset, represent, device=device, examples=examples, batch_size=config.batch_size, seed=config.seed,
        threads=config.threads, memory=config.memory, what=what, note=note,
    )  # fmt: skip
