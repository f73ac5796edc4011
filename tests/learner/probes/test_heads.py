"""Saved heads give the same scores, and say what they are for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from learner.checkpoint import DamagedCheckpointError
from learner.probes.attentive import AttentiveConfig
from learner.probes.evaluation import ProbeConfig, evaluate, score
from learner.probes.heads import ARRAYS, DOCUMENT, KINDS, load_head, save_head
from tests.learner.probes.small import encoder, pictures

CONFIG = ProbeConfig(kinds=KINDS, attentive=AttentiveConfig(depth=2, epochs=2, batch_size=16, lrs=(3e-3,)))


def test_a_saved_head_scores_as_it_did(tmp_path: Path) -> None:
    test = pictures(40, seed=1)
    for row in evaluate(encoder(), pictures(), test, CONFIG):
        assert row.head is not None
        folder = save_head(row.head, tmp_path / row.kind, encoder(), {"accuracy": float(row.correct.mean())})
        assert not list(folder.glob("*.pt")) and (folder / ARRAYS).exists()
        again = score(load_head(folder), encoder(), test, CONFIG)
        np.testing.assert_array_equal(again.correct, row.correct)
        assert json.loads((folder / DOCUMENT).read_text())["found"]["accuracy"] == row.correct.mean()


def test_a_head_that_does_not_fit_is_named(tmp_path: Path) -> None:
    row = evaluate(encoder(), pictures(), pictures(40, seed=1), ProbeConfig(kinds=("linear",)))[0]
    assert row.head is not None
    with pytest.raises(ValueError, match="is for an encoder with 1 frames of a clip; small has 4"):
        row.head.require_encoder(encoder(clips=True))
    more = pictures(40)
    more.labels[0] = 5  # type: ignore[index]
    with pytest.raises(ValueError, match="has labels up to 5; the head knows 2 classes, 0 to 1"):
        score(row.head, encoder(), more)
    folder = save_head(row.head, tmp_path / "linear", encoder(), {})
    with pytest.raises(ValueError, match=r"holds no head of a probe \(head.json\)"):
        load_head(tmp_path)
    file = folder / ARRAYS
    file.write_bytes(file.read_bytes()[:-4] + b"abcd")
    with pytest.raises(DamagedCheckpointError, match="its checksum differs"):
        load_head(folder)


def test_a_head_of_a_later_version_is_refused(tmp_path: Path) -> None:
    row = evaluate(encoder(), pictures(), pictures(40, seed=1), ProbeConfig(kinds=("knn",)))[0]
    assert row.head is not None
    folder = save_head(row.head, tmp_path / "knn", encoder(), {})
    (folder / "manifest.json").unlink()
    fields = json.loads((folder / DOCUMENT).read_text())
    for change, message in (
        ({"format": 2}, "format 2, newer than 1"),
        ({"kind": "magic"}, "'magic' is not one of linear, attentive, knn"),
        ({"width": 3}, "maps 16 features to 2 classes, not 3 to 2"),
        ({"options": None}, "describes no head"),
    ):
        (folder / DOCUMENT).write_text(json.dumps(fields | change))
        with pytest.raises(ValueError, match=message):
            load_head(folder)
    (folder / DOCUMENT).write_text(json.dumps(fields))
    assert torch.equal(load_head(folder).arrays["labels"], torch.arange(60) % 2)


def test_a_head_is_for_the_weights_that_it_was_trained_on(tmp_path: Path) -> None:
    row = evaluate(encoder(), pictures(), pictures(40, seed=1), ProbeConfig(kinds=("linear",)))[0]
    assert row.head is not None
    folder = save_head(row.head, tmp_path / "linear", encoder(), {}, ("dark", "bright"))
    head, other = load_head(folder), encoder()
    assert head.names == ("dark", "bright")
    head.require_encoder(encoder())
    next(other.parameters()).add_(1e-3)
    with pytest.raises(ValueError, match="trained on other weights than those of small. Give the checkpoint that its"):
        score(head, other, pictures())
    (folder / "manifest.json").unlink()
    fields = json.loads((folder / DOCUMENT).read_text())
    (folder / DOCUMENT).write_text(json.dumps({k: v for k, v in fields.items() if k not in ("checksum", "names")}))
    load_head(folder).require_encoder(other)  # earlier versions kept neither
