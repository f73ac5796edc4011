"""Probes against an independent solver, numbers by hand, and data whose classes are known."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from learner.datasets.dataset import UnreadableError
from learner.datasets.generated.held import Held
from learner.probes.attentive import AttentiveConfig, attentive_scores, fit_attentive
from learner.probes.encoders import Encoder
from learner.probes.evaluation import (
    DIFFERENCES,
    FINETUNED,
    FROZEN,
    PIXELS,
    RANDOM,
    SHUFFLED,
    SUPERVISED,
    ProbeConfig,
    evaluate,
)
from learner.probes.features import read, shuffled, split
from learner.probes.finetune import FinetuneConfig
from learner.probes.knn import knn_scores
from learner.probes.linear import fit_linear
from tests.learner.probes.small import clips, encoder, pictures
from tests.world_models.latent import small as small_latent

QUICK = AttentiveConfig(depth=1, epochs=12, batch_size=16, lrs=(3e-3, 1e-2), decays=(0.0, 0.1))
TUNED = FinetuneConfig(epochs=8, batch_size=16, lr=3e-3)


def noisy(count: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three overlapping classes; the features have very different scales."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    x = torch.randn(count, width, generator=generator) + 1.5 * torch.eye(3, width)[labels]
    return x * torch.logspace(-2, 2, width) + 7, labels


@pytest.mark.parametrize(("count", "width"), [(90, 6), (40, 70)])
def test_every_penalty_of_a_linear_probe_is_solved_exactly(count: int, width: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    (x, y), (other, _), decays = noisy(count, width), noisy(50, width, seed=1), (1e-3, 1e-2, 1.0)
    ours = fit_linear(x, y, 3, decays)(other).softmax(-1)
    standard, fresh = ((z.double() - x.double().mean(0)) / x.double().std(0) for z in (x, other))
    for number, decay in enumerate(decays):
        solver = linear_model.LogisticRegression(C=1 / (decay * count), tol=1e-8, max_iter=10_000)
        theirs = solver.fit(standard.numpy(), y.numpy()).predict_proba(fresh.numpy())
        np.testing.assert_allclose(ours[number].numpy(), theirs, atol=2e-3)


def test_constant_features_say_nothing() -> None:
    x, y = torch.ones(30, 4), torch.arange(30) % 3
    torch.testing.assert_close(fit_linear(x, y, 3)(x).softmax(-1), torch.full((5, 30, 3), 1 / 3), atol=1e-4, rtol=0)


def test_probes_side_by_side_are_those_trained_alone() -> None:
    seen = read(clips(), {"tokens": encoder(clips=True)})
    together = fit_attentive(seen.features["tokens"], seen.labels, 2, replace(QUICK, epochs=2))
    assert len(together) == 4
    for (lr, decay), probe in zip(QUICK.grid, together, strict=True):
        alone = fit_attentive(
            seen.features["tokens"], seen.labels, 2, replace(QUICK, epochs=2, lrs=(lr,), decays=(decay,))
        )[0]
        for one, other in zip(probe.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    scores = [attentive_scores(probe, seen.features["tokens"]) for probe in together]
    assert not torch.allclose(scores[0], scores[2], atol=1e-3), "rates differ"


def test_neighbours_vote_by_their_similarity() -> None:
    train = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])  # mean 0
    labels, asked = torch.tensor([0, 1, 1, 2]), torch.tensor([[3.0, 3e-6]])
    votes = knn_scores(train, labels, 3, asked, neighbours=3, temperature=0.5)
    # similarities 1, 1e-6 and -1e-6: the last has the label 2
    expected = torch.tensor([[1.0, math.exp(-2), math.exp(-2)]])
    torch.testing.assert_close(votes, expected, atol=1e-4, rtol=0)
    cold = knn_scores(train, labels, 3, asked, neighbours=3, temperature=1e-4)
    torch.testing.assert_close(cold, torch.tensor([[1.0, 0, 0]]), atol=1e-6, rtol=0)


def test_every_class_is_trained_on_and_chosen_by() -> None:
    labels = torch.tensor([0] * 10 + [1] * 2 + [2] * 5)
    fit, choose = split(labels, 0.2, seed=0)
    assert sorted([*fit.tolist(), *choose.tolist()]) == list(range(17))
    assert torch.bincount(labels[choose]).tolist() == [2, 1, 1]
    assert fit.tolist() != split(labels, 0.2, seed=1)[0].tolist()


def test_shuffled_clips_have_the_same_frames() -> None:
    frames = torch.from_numpy(np.broadcast_to(clips(8).frames, (8, 4, 8, 8, 3)).copy())
    out = shuffled(lambda x: x, seed=0)(frames)
    assert not torch.equal(out, frames)
    torch.testing.assert_close(out.sum(1, dtype=torch.int64), frames.sum(1, dtype=torch.int64))


def test_pictures_are_read_by_every_probe_and_repeat() -> None:
    config = ProbeConfig(
        kinds=("linear", "attentive", "knn"), attentive=QUICK, baselines=True, finetune=True, end_to_end=TUNED
    )
    rows = evaluate(encoder(), pictures(), pictures(40, seed=1), config)
    scores = {(row.kind, row.source): row.correct.mean() for row in rows}
    kinds, end = ("linear", "attentive", "knn"), "end to end"
    assert set(scores) == {
        *((kind, source) for kind in kinds for source in (FROZEN, RANDOM)), ("linear", PIXELS), (end, SUPERVISED),
        (end, FINETUNED),
    }  # fmt: skip
    assert scores["linear", PIXELS] == scores["attentive", FROZEN] == scores[end, SUPERVISED] == 1
    again = evaluate(encoder(), pictures(), pictures(40, seed=1), config)
    for one, other in zip(rows, again, strict=True):
        np.testing.assert_array_equal(one.correct, other.correct)
        assert one.chosen == other.chosen
    assert all((row.head is not None) == (row.source == FROZEN) for row in rows)


def test_what_frames_do_not_show_is_lost_with_their_order() -> None:
    config = ProbeConfig(
        kinds=("attentive",), attentive=replace(QUICK, epochs=40), baselines=True, end_to_end=replace(TUNED, epochs=1)
    )
    rows = evaluate(encoder(clips=True), clips(256), clips(128, seed=1), config)
    scores = {row.source: float(row.correct.mean()) for row in rows}
    assert set(scores) == {FROZEN, SHUFFLED, PIXELS, DIFFERENCES, RANDOM, SUPERVISED}
    assert scores[FROZEN] > 0.8 and scores[SHUFFLED] < scores[FROZEN] - 0.15


def test_training_end_to_end_leaves_the_encoder_as_it_is() -> None:
    own = encoder()
    before = [p.clone() for p in own.parameters()]
    evaluate(own, pictures(), pictures(20, seed=1), ProbeConfig(kinds=("knn",), finetune=True, end_to_end=TUNED))
    for one, other in zip(before, own.parameters(), strict=True):
        assert torch.equal(one, other) and not other.requires_grad


def test_penalties_are_chosen_without_the_test() -> None:
    wrong = replace(pictures(40, seed=1), labels=1 - np.arange(40) % 2)
    right, other = (
        evaluate(encoder(), pictures(), test, ProbeConfig(kinds=("linear",)))[0]
        for test in (pictures(40, seed=1), wrong)
    )
    assert right.chosen == other.chosen and right.validation == other.validation
    np.testing.assert_array_equal(right.correct, ~other.correct)


def test_what_cannot_be_probed_is_named() -> None:
    one_class = replace(pictures(), labels=np.zeros(60, np.int64))
    with pytest.raises(ValueError, match="needs at least 2 classes, but all 60 training examples have the label 0"):
        evaluate(encoder(), one_class, pictures(), ProbeConfig())
    with pytest.raises(ValueError, match="noise: 60 examples .* has no labels. Sort pictures"):
        evaluate(encoder(), pictures(labelled=False), pictures(), ProbeConfig())
    rare = replace(pictures(), labels=np.array([2] + [0, 1] * 29 + [0]))
    with pytest.raises(ValueError, match="Class 2 has 1 training example; a probe needs at least 2 of each class"):
        evaluate(encoder(), rare, pictures(), ProbeConfig())
    with pytest.raises(ValueError, match="60 examples take .* than the 1e-06 GB allowed by --memory.* with --examples"):
        evaluate(encoder(), pictures(), pictures(), ProbeConfig(kinds=("attentive",), memory=1e-6))
    with pytest.raises(ValueError, match="60 examples take .* than the 4e-06 GB .* with --test-examples"):
        evaluate(encoder(), pictures(4), pictures(), ProbeConfig(kinds=("attentive",), memory=4e-6))
    with pytest.raises(ValueError, match="heads=5 that divide the width of 16"):
        evaluate(
            encoder(), pictures(), pictures(), ProbeConfig(kinds=("attentive",), attentive=AttentiveConfig(heads=5))
        )


def test_training_end_to_end_sees_as_many_examples_as_probes() -> None:
    seen: set[int] = set()

    @dataclass(frozen=True, kw_only=True)
    class Watched(Held):
        def recording(self, index: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
            seen.add(index)
            return super().recording(index, rng)

    tuning = Watched(**vars(pictures()))
    config = ProbeConfig(kinds=("knn",), finetune=True, end_to_end=replace(TUNED, epochs=1), examples=20)
    rows = evaluate(encoder(), pictures(), pictures(20, seed=1), config, tuning=tuning)
    assert [row.learned for row in rows] == [20, 20]
    assert len(seen - {0}) <= 20  # the first is looked at for its label


def test_what_cannot_be_read_is_counted() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Broken(Held):
        def recording(self, index: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
            if index in (3, 4):
                raise UnreadableError(str(index), "torn")
            return super().recording(index, rng)

    train = Broken(**vars(pictures()))
    config = ProbeConfig(kinds=("knn",), finetune=True, end_to_end=replace(TUNED, epochs=1))
    rows = evaluate(encoder(), train, pictures(20, seed=1), config)
    assert [(row.learned, row.unreadable) for row in rows] == [(58, 2), (58, 2)]


def test_labels_to_train_on_end_to_end_are_checked() -> None:
    config = ProbeConfig(kinds=("knn",), finetune=True, end_to_end=TUNED)
    other = replace(pictures(), labels=np.arange(60) % 3)
    with pytest.raises(ValueError, match="has the label 2; the data that is probed has 2 classes, 0 to 1. Give --tun"):
        evaluate(encoder(), pictures(), pictures(20, seed=1), config, tuning=other)
    told: list[str] = []
    with pytest.raises(ValueError, match="has no labels"):
        evaluate(
            encoder(), pictures(), pictures(20), config, lambda what, *_: told.append(what), pictures(labelled=False)
        )
    assert not told, "refused before anything is read"


def test_encoders_of_single_frames_have_no_shuffled_and_no_supervised_row() -> None:
    model = small_latent.build()
    own = Encoder(model.config, model, "latent").frozen()
    config = ProbeConfig(kinds=("knn",), baselines=True)
    rows = evaluate(own, clips(), clips(16, seed=1), config)
    assert [row.source for row in rows] == [FROZEN, PIXELS, DIFFERENCES, RANDOM]
    with pytest.raises(ValueError, match="latent_world model; of those that can be probed, I-JEPA and V-JEPA 2 can"):
        evaluate(own, clips(labelled=False), clips(), replace(config, finetune=True))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 0.0, -1.0])
def test_numbers_of_a_probe_are_finite_and_positive(wrong: float) -> None:
    made: tuple[Callable[[], object], ...] = (
        lambda: ProbeConfig(decays=(1.0, wrong)),
        lambda: ProbeConfig(decays=(wrong, 1.0)),
        lambda: ProbeConfig(temperature=wrong),
        lambda: ProbeConfig(memory=wrong),
        lambda: AttentiveConfig(lrs=(1e-3, wrong)),
        lambda: AttentiveConfig(decays=(0.1, wrong or math.nan)),
        lambda: FinetuneConfig(lr=wrong),
        lambda: FinetuneConfig(decay=wrong or math.nan),
    )
    for make in made:
        with pytest.raises(ValueError, match="finite"):
            make()
