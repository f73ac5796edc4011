"""What codes tell of each other."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.video_quality.information import counts, normalized_mutual_information, perplexity

CODES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40)


def test_perplexity_counts_codes_that_are_used_alike() -> None:
    assert counts(torch.tensor([[0, 2], [2, 5]]), 8).tolist() == [1, 0, 2, 0, 0, 1, 0, 0]
    assert perplexity(counts(torch.arange(6), 8)) == pytest.approx(6)
    assert perplexity(torch.tensor([9, 0, 0])) == 1
    entropy = -sum(p * math.log(p) for p in (0.75, 0.25))
    assert perplexity(torch.tensor([30, 10])) == pytest.approx(math.exp(entropy))


def test_mutual_information_of_known_tables() -> None:
    a = torch.tensor([0, 0, 1, 1, 2, 2])
    assert normalized_mutual_information(a, torch.tensor([2, 2, 0, 0, 1, 1])) == pytest.approx(1)
    assert normalized_mutual_information(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])) == 0
    merged = normalized_mutual_information(a, torch.tensor([0, 0, 0, 0, 1, 1]))
    shared = math.log(3) - 2 / 3 * math.log(2)  # all that the coarser labels have
    assert merged == pytest.approx(2 * shared / (math.log(3) + shared))
    assert normalized_mutual_information(a, torch.zeros(6, dtype=torch.int64)) == 0
    assert normalized_mutual_information(a[:0], a[:0]) == 0


@settings(max_examples=40, deadline=None)
@given(CODES)
def test_mutual_information_is_symmetric_and_ignores_names(pairs: list[tuple[int, int]]) -> None:
    a, b = torch.tensor(pairs).T
    value = normalized_mutual_information(a, b)
    assert 0 <= value <= 1
    assert normalized_mutual_information(b, a) == pytest.approx(value)
    assert normalized_mutual_information((a * 2 + 1) % 5, b) == pytest.approx(value)  # 2 and 5 are coprime
    itself = normalized_mutual_information(a, a)
    assert itself == pytest.approx(1 if len(set(a.tolist())) > 1 else 0)
