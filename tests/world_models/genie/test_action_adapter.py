"""Real actions for latent ones: what was most often seen beside them."""

import pytest
import torch

from world_models.genie.action_adapter import ActionAdapter


def test_the_most_frequent_real_action_is_taken() -> None:
    latent, real = torch.tensor([0, 0, 0, 2, 2, 1]), torch.tensor([3, 3, 1, 0, 0, 3])
    adapter = ActionAdapter.fit(latent, real, latents=4, reals=5)
    assert adapter.counts.tolist() == [[0, 1, 0, 2, 0], [0, 0, 0, 1, 0], [2, 0, 0, 0, 0], [0] * 5]
    assert adapter.table.tolist() == [3, 3, 0, 3]  # the last was never seen: the most frequent of all
    assert adapter(torch.tensor([2, 0, 3])).tolist() == [0, 3, 3]


def test_renaming_latent_actions_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(5, (100,), generator=generator)
    names = torch.randperm(6, generator=generator)
    adapter = ActionAdapter.fit(names[real], real, latents=6, reals=5)
    assert torch.equal(adapter(names[:5]), torch.arange(5))


def test_it_needs_labels() -> None:
    with pytest.raises(ValueError, match="only from labelled transitions"):
        ActionAdapter.fit(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), 4, 5)
