"""Probes of a pretrained encoder: a table, probe.json, a picture and the heads."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.evaluation import proportion_interval
from deploy.reports.pretraining.probe_picture import draw_scores
from deploy.stored.datasets import open_dataset
from learner.datasets.dataset import Clip, Dataset
from learner.datasets.keys import Keys
from learner.datasets.subset import Subset, class_names, held_out, recordings_of
from learner.datasets.view import View
from learner.pretrain.pretrainer import choose_device
from learner.probes.encoders import Encoder, require_family
from learner.probes.evaluation import FROZEN, ProbeConfig, Row, evaluate, score
from learner.probes.heads import Head, load_head, save_head
from replay.counted import counted
from replay.files.whole_file import whole_file
from world_models.checkpoint_files import newest_model
from world_models.dataclass_json import to_json
from world_models.loading import load_world_model
from world_models.model_document import read_family

DOCUMENT, PICTURE = "probe.json", "probe.png"
SCORED_DOCUMENT, SCORED_PICTURE = "scores.json", "scores.png"
"""Of a saved head's scores, which leave those of its training as they are."""
_LINE_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """What `probe_model` reads and writes."""

    data: str
    """Labelled data to learn from, or to score a head on."""
    test: str = ""
    """Data to score on; empty: the test split of generated data, or `held_out`."""
    held_out: float = 0.2
    """Share of the data to score on."""
    tuning: str = ""
    """What training end to end learns from; empty: the data."""
    stride: int = 1
    fps: float = 0.0
    head: Path | None = None
    """A saved head to score in place of new probes."""
    out: Path | None = None
    """Folder for probe.json, probe.png and the heads, or of a saved head scores.json and scores.png; None writes
    nothing."""
    json: bool = False
    """Print one JSON object alone."""
    device: str = "auto"


def load_encoder(path: Path, device: str = "auto") -> Encoder:
    """The frozen encoder of a run, as in its newest checkpoint, of a checkpoint or of an imported model.

    ValueError: there is none, its model has no encoder, or its files are damaged.
    """
    folder = newest_model(path)
    require_family(read_family(folder).name, str(folder))
    loaded = load_world_model(folder, choose_device(device))
    return Encoder(loaded.document.config, loaded.model, str(folder)).frozen()


def probe_model(path: Path, settings: ProbeSettings, config: ProbeConfig) -> dict[str, Any]:
    """Probe the encoder at `path`, print the table, write the files; returns what is in probe.json or scores.json.

    ValueError names what does not fit: the model, the data, its labels, or the head.
    """
    encoder = load_encoder(path, settings.device)
    head = load_head(settings.head, choose_device(settings.device)) if settings.head else None
    if head:
        head.require_encoder(encoder, settings.head)
    if config.finetune:
        encoder.require_tunable()
    progress, notes, names = Progress(), list[str](), tuple[str, ...]()
    if config.baselines and not encoder.tunable:
        notes.append(f"The supervised row is left out: a {encoder.config.family} model cannot be trained on labels.")
    with labelled_data(encoder, settings) as (train, test):
        if head:
            require_names(head, test)
            rows = [score(head, encoder, test, config, progress)]
            named = test.describe()
        else:
            with _tuning_data(encoder, settings) as tuning:
                if tuning is not None:
                    _require_same_classes(train, tuning)
                rows = evaluate(encoder, train, test, config, progress, tuning)
            names = class_names(train) or ()
            named = f"{train.describe()}; scored on {test.describe()}"
    document: dict[str, Any] = {
        "checkpoint": encoder.name, "data": named, "head": str(settings.head) if settings.head else None,
        "config": to_json(config), "scores": [as_document(row) for row in rows], "notes": notes,
    }  # fmt: skip
    if settings.json:
        print(json.dumps(document))
    else:
        print(f"Encoder {encoder.name}, {named}:")
        print("\n".join([*table(document["scores"]), *read_lines(document["scores"]), *notes]))
    say = (lambda text: None) if settings.json else print
    if settings.out:
        write(settings.out, encoder, rows, document, say, names)
    elif not head:
        say("Nothing is kept; --out FOLDER keeps these scores, a picture and the heads.")
    return document


def write(
    out: Path, encoder: Encoder, rows: Sequence[Row], document: dict[str, Any], say: Callable[[str], object],
    names: Sequence[str] = (),
) -> None:  # fmt: skip
    """probe.json, probe.png and a folder for each head, with the classes' `names`; of a saved head scores.json and
    scores.png."""
    file, picture = (SCORED_DOCUMENT, SCORED_PICTURE) if document["head"] else (DOCUMENT, PICTURE)
    for row, found in zip(rows, document["scores"], strict=True):
        if row.head is not None:
            say(f"{row.kind + ' head:':<16}{save_head(row.head, out / row.kind, encoder, found, names)}")
    with whole_file(out / file) as fresh:
        fresh.write_text(json.dumps(document, indent=2) + "\n")
    say(f"{'scores:':<16}{out / file}")
    say(f"{'picture:':<16}{draw_scores(document['scores'], out / picture)}")


def as_document(row: Row) -> dict[str, Any]:
    """A score with its 95 % interval (Wilson's)."""
    correct = row.correct.astype(float).tolist()
    return {
        "probe": row.kind, "features": row.source, "accuracy": float(row.correct.mean()),
        "interval95": list(proportion_interval(correct)), "examples": len(correct), "training_examples": row.learned,
        "unreadable": row.unreadable, "chosen": dict(row.chosen), "validation_accuracy": row.validation,
        "cpu_seconds": round(row.seconds, 3),
    }  # fmt: skip


def table(scores: Sequence[dict[str, Any]]) -> list[str]:
    """The scores as lines of text."""
    lines = [f"{'probe':<12}{'of':<16}{'accuracy':>9}  {'95 % interval':<16}{'validation':>11}  chosen"]
    for one in scores:
        low, high = one["interval95"]
        validated = "" if one["validation_accuracy"] is None else f"{one['validation_accuracy']:.3f}"
        chosen = ", ".join(f"{name} {value:g}" for name, value in one["chosen"].items())
        between = f"[{low:.3f}, {high:.3f}]"
        features = "encoder" if one["features"] == FROZEN else one["features"]
        line = f"{one['probe']:<12}{features:<16}{one['accuracy']:>9.3f}  {between:<16}{validated:>11}  {chosen}"
        lines.append(line.rstrip())
    return lines


def read_lines(scores: Sequence[dict[str, Any]]) -> list[str]:
    """How many examples were really read, a line for each different answer, as text."""
    lines: dict[str, list[str]] = {}
    for one in scores:
        learned = one["training_examples"]
        trained = "" if learned is None else f"learned from {counted(learned, 'example')}, "
        lost = f"; {one['unreadable']:,} could not be read and were left out" if one["unreadable"] else ""
        lines.setdefault(f"{trained}scored on {counted(one['examples'], 'example')}{lost}", []).append(
            "encoder" if one["features"] == FROZEN else one["features"]
        )
    if len(lines) == 1:
        return [f"Read: {line}." for line in lines]
    return [f"Read, {', '.join(dict.fromkeys(of))}: {line}." for line, of in lines.items()]


@contextmanager
def labelled_data(encoder: Encoder, settings: ProbeSettings) -> Iterator[tuple[Dataset, Dataset]]:
    """The examples to learn from and to score on, as the encoder sees them. ValueError: they cannot be read, or their
    classes differ."""

    def opened(where: str, split: str = "train") -> Dataset:
        return _opened(encoder, settings, where, split)

    generated = settings.data.startswith("generated:")
    if settings.head:
        train = test = opened(settings.test or settings.data, "test" if generated and not settings.test else "train")
    elif settings.test or generated:
        train = opened(settings.data)
        test = opened(settings.test or settings.data, "test" if generated and not settings.test else "train")
    else:
        whole = opened(settings.data)
        if whole.live:
            train = test = whole  # refused when it is read
        else:
            kept, out = held_out(recordings_of(whole), settings.held_out)
            train = test = whole
            if len(kept) and len(out):
                train, test = Subset(whole, kept), Subset(whole, out)
    try:
        _require_same_classes(train, test)
        yield train, test
    finally:
        train.close()
        test.close()


@contextmanager
def _tuning_data(encoder: Encoder, settings: ProbeSettings) -> Iterator[Dataset | None]:
    if not settings.tuning:
        yield None
        return
    dataset = _opened(encoder, settings, settings.tuning)
    try:
        yield dataset
    finally:
        dataset.close()


def _opened(encoder: Encoder, settings: ProbeSettings, where: str, split: str = "train") -> Dataset:
    clip = Clip(frames=encoder.frames, stride=settings.stride, fps=settings.fps)
    view, keys = View(size=encoder.size), Keys(conditions=False)
    return open_dataset(where, clip=clip, view=view, keys=keys, split=split, note=_say)


def _require_same_classes(train: Dataset, test: Dataset) -> None:
    own, other = (class_names(one) for one in (train, test))
    if own is not None and other is not None and own != other:
        raise ValueError(
            f"{train.describe()} has the classes {', '.join(own) or 'none'}, {test.describe()} has "
            f"{', '.join(other) or 'none'}; give both a subfolder for each of the same classes."
        )


def require_names(head: Head, test: Dataset) -> None:
    """ValueError: the classes have other names than those that the head was trained on."""
    found = class_names(test)
    if head.names and found and head.names != found:
        raise ValueError(
            f"{test.describe()} has the classes {', '.join(found)}; the head was trained on {', '.join(head.names)}. "
            "Give data with a subfolder for each of these."
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr)


class Progress:
    """Lines to standard error from time to time, so that the output holds only the scores."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._last = clock, clock()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = self._clock()
        if now - self._last >= _LINE_SECONDS:
            self._last = now
            print(f"{what}: {done:,}/{total:,}", file=sys.stderr, flush=True)
