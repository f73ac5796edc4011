import numpy as np
import pytest
import torch

from tests.world_models.genie.small import clips, small_config
from world_models.genie.config import LatentActionConfig, TransformerConfig
from world_models.genie.latent_action import LatentActionModel
from world_models.genie.pixels import centred


def noise(rows: int = 2, frames: int = 4) -> torch.Tensor:
    return torch.rand(rows, frames - 1, generator=torch.Generator().manual_seed(0))


def fresh(seed: int = 0) -> LatentActionModel:
    torch.manual_seed(seed)
    return LatentActionModel(small_config().latent_action)


def test_a_fresh_model_predicts_that_nothing_changes() -> None:
    model, x = fresh().eval(), clips()
    loss = model.losses(x, noise())["prediction"]
    assert torch.allclose(loss, (x.float() / 255).diff(dim=1).square().mean((1, 2, 3, 4)), atol=1e-6)


def test_an_action_depends_on_the_two_frames_around_it_and_earlier_ones_alone() -> None:
    model, x = fresh().eval(), clips(rows=16)
    changed = x.clone()
    changed[:, 3] = 255 - changed[:, 3]
    assert torch.equal(model.infer(x)[:, :2], model.infer(changed)[:, :2])
    assert model.infer(x).shape == (16, 3) and int(model.infer(x).max()) < 3


def test_long_clips_are_seen_through_windows_of_the_length_of_training() -> None:
    model, x = fresh().eval(), clips(rows=8, frames=7)
    actions = model.infer(x)
    assert torch.equal(actions[:, :3], model.infer(x[:, :4]))
    for t in range(4, 7):
        assert torch.equal(actions[:, t - 1], model.infer(x[:, t - 3 : t + 1])[:, -1])


def test_evaluation_changes_nothing_and_training_the_averages_alone() -> None:
    model = fresh().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.losses(clips(), noise())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.train().losses(clips(), noise())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(before[name], value)}
    assert {"share", "calls"} <= changed <= {"usage", "share", "calls"}
    assert float(model.usage.sum()) == pytest.approx(1.0)


def test_an_action_that_is_never_the_best_becomes_a_variant_of_another() -> None:
    model = fresh()
    with torch.no_grad():
        model._replace_unused(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.5, 0.0, 0.0]))
        weights = model.actions.weight.clone()
        for _ in range(60):
            model._replace_unused(torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.1, 0.4, 0.0]))
    assert not torch.equal(model.actions.weight[2], weights[2])
    assert (model.actions.weight[2] - model.actions.weight[1]).norm() < (weights[2] - weights[1]).norm()


def test_it_finds_the_directions_in_which_a_square_moves() -> None:
    rng = np.random.default_rng(0)
    moves = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])
    torch.manual_seed(0)
    blocks = TransformerConfig(width=32, depth=2, heads=2)
    model = LatentActionModel(
        LatentActionConfig(size=16, frames=2, patch=4, encoder=blocks, decoder=blocks, actions=5)
    ).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def pairs(rows: int) -> tuple[torch.Tensor, np.ndarray]:
        frames = np.full((rows, 2, 16, 16, 3), 60, np.uint8)
        places, actions = rng.integers(1, 3, (rows, 2)), rng.integers(4, size=rows)
        for row in range(rows):
            for t, (y, x) in enumerate((places[row], places[row] + moves[actions[row]])):
                frames[row, t, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = 240
        return torch.from_numpy(frames), actions

    for number in range(150):
        frames, _ = pairs(32)
        drawn = torch.rand(32, 1, generator=torch.Generator().manual_seed(number))
        loss = torch.stack([part.mean() for part in model(frames, drawn).values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    frames, actions = pairs(200)
    pixels = model._patches(frames)
    embedded = model.decoder_embed(centred(pixels[:, :-1]))
    best = model._posterior(embedded, pixels.diff(dim=1))[:, 0].argmax(-1).numpy()
    table = np.zeros((4, 5))
    np.add.at(table, (actions, best), 1)
    assert (table.max(1) / table.sum(1)).min() > 0.9 and len(set(table.argmax(1))) == 4


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="actions=1 must be at least 2"):
        LatentActionConfig(actions=1)
    with pytest.raises(ValueError, match="clips need at least 2"):
        LatentActionConfig(frames=1)
    with pytest.raises(ValueError, match="size=30 must be a multiple of patch=16"):
        LatentActionConfig(size=30)
