"""The loss by which two views of a clip find each other, and what is played backwards."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from learner.pretrain.jepa_objectives import VJEPA2Objective
from world_models.jepa import presets
from world_models.jepa.agreement import agreement, shifted
from world_models.jepa.config import AgreementConfig, VJEPA2Config
from world_models.jepa.vjepa2 import VJEPA2


def config(backwards: bool = True) -> VJEPA2Config:
    motion = presets.vjepa2("motion")
    return replace(
        motion, encoder=replace(motion.encoder, depth=1), agreement=AgreementConfig(
            weight=0.5, temperature=0.5, shift=3, reversed=backwards
        ),
    )  # fmt: skip


def moving(count: int, seed: int = 0) -> Tensor:
    """Clips of a bright square that moves to the right, or to the left."""
    rng, frames = np.random.default_rng(seed), np.zeros((count, 8, 32, 32, 3), np.uint8)
    for clip in range(count):
        row, step = rng.integers(4, 20), (2, -2)[clip % 2]
        for time in range(8):
            column = 12 + step * (time - 4)
            frames[clip, time, row : row + 8, column : column + 8] = 255
    return torch.from_numpy(frames)


def test_others_are_what_a_view_must_not_be_taken_for() -> None:
    # Views and the other lie on a line: (1, -1) for the first image, (-1, 1) for the second and the other.
    means = torch.tensor([[[2.0, 1], [1, 2]], [[2.0, 1], [1, 2]]])
    plain, found = agreement(means, 0.5), agreement(means, 0.5, torch.zeros(0, 2))
    assert torch.equal(plain, found)
    x = torch.cat([means.flatten(0, 1), torch.tensor([[1.0, 2]])])
    x = torch.nn.functional.normalize((x - x.mean(0)) / x.std(0, correction=0), dim=-1)
    likeness = (x[:4] @ x.T / 0.5).exp()
    own = likeness.diagonal()
    right = torch.stack([likeness[0, 2], likeness[1, 3], likeness[2, 0], likeness[3, 1]])
    expected = (-(right / (likeness.sum(1) - own)).log()).unflatten(0, (2, 2)).mean(0)
    torch.testing.assert_close(agreement(means, 0.5, torch.tensor([[1.0, 2]])), expected)


@pytest.mark.parametrize("backwards", [True, False])
def test_views_and_what_is_played_backwards(backwards: bool) -> None:
    torch.manual_seed(0)
    objective = VJEPA2Objective(config(backwards))
    batch = {"frames": torch.randint(0, 256, (4, 8, 32, 32, 3), dtype=torch.uint8)}
    drawn = objective.draw(4, torch.Generator().manual_seed(0))
    [clips], [pairs] = objective.inputs(batch, drawn, slice(0, 4))
    rows = 12 if backwards else 8
    assert len(clips) == rows and [len(pair.context) for pair in pairs] == [4, rows - 4]
    views = objective._clips(shifted(batch["frames"], drawn.shifts))  # type: ignore[union-attr]
    assert torch.equal(clips[:8], views)
    if backwards:
        assert torch.equal(clips[8:], clips[4:8].flip(2)), "the second view's, from its last frame to its first"
    model = objective.model
    losses = model(*objective.inputs(batch, drawn, slice(0, 4)))
    assert set(losses) == {"prediction", "agreement", "variance", "covariance"}
    assert {value.shape for value in losses.values()} == {(4,)} and "agreement" in objective.apart

    own = [type(pair)(*(ids[:4] for ids in pair)) for pair in pairs]
    plain = VJEPA2(replace(config(), agreement=AgreementConfig()))
    plain.load_state_dict(model.state_dict())  # no parameters of its own
    each = [plain.group_losses(view, [pair])["prediction"] for view, pair in zip(views.chunk(2), own, strict=True)]
    torch.testing.assert_close(losses["prediction"], torch.stack(each).mean(0))
    grid = plain.encoder.patch_embed.grid(clips)
    means = [
        plain.encoder.transform(plain.encoder.embed(part), grid, pair.context).mean(1)
        for part, pair in zip((clips[:4], clips[4:]), pairs, strict=True)
    ]
    expected = agreement(torch.stack([means[0], means[1][:4]]), 0.5, means[1][4:])
    torch.testing.assert_close(losses["agreement"], 0.5 * expected)


def test_processes_see_their_rows_of_the_batch() -> None:
    objective = VJEPA2Objective(config())
    batch = {"frames": torch.randint(0, 256, (4, 8, 32, 32, 3), dtype=torch.uint8)}
    drawn = objective.draw(4, torch.Generator().manual_seed(0))
    [clips], [pairs] = objective.inputs(batch, drawn, slice(0, 4))
    [part], [own] = objective.inputs({"frames": batch["frames"][1:3]}, drawn, slice(1, 3))
    assert torch.equal(part, clips.unflatten(0, (3, 4))[:, 1:3].flatten(0, 1))
    for some, whole in zip(own, pairs, strict=True):
        for ids, all_ids in zip(some, whole, strict=True):
            assert torch.equal(ids, all_ids.unflatten(0, (-1, 4))[:, 1:3].flatten(0, 1))


def test_updates_tell_a_clip_from_itself_played_backwards() -> None:
    torch.manual_seed(0)
    objective, generator = VJEPA2Objective(config()), torch.Generator().manual_seed(0)
    optimizer, found = torch.optim.AdamW(objective.model.encoder.parameters(), 2e-3), []
    for update in range(45):
        batch = {"frames": moving(16, update)}
        loss = objective.model(*objective.inputs(batch, objective.draw(16, generator), slice(0, 16)))[
            "agreement"
        ].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    thirds = [float(np.mean(found[i : i + 15])) for i in (0, 15, 30)]
    assert all(later < sooner for sooner, later in pairwise(thirds)), thirds


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"agreement.reversed needs the loss: set agreement.weight above 0"):
        AgreementConfig(reversed=True)
    turned = AgreementConfig(weight=1.0, reversed=True)
    with pytest.raises(ValueError, match=r"agreement.reversed is of clips; I-JEPA takes images"):
        replace(presets.ijepa(), agreement=turned)
    with pytest.raises(ValueError, match=r"agreement.shift=32 must be less than encoder.size=32"):
        replace(presets.vjepa2(), agreement=AgreementConfig(shift=32))
