"""The loss by which two views of an image find each other, and the views."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from learner.pretrain.jepa_objectives import IJEPAObjective
from world_models.jepa import presets
from world_models.jepa.agreement import agreement, draw_shifts, shifted
from world_models.jepa.config import AgreementConfig, BlockMaskConfig, IJEPAConfig
from world_models.jepa.ijepa import IJEPA
from world_models.model_document import ModelDocument


def config(shift: int = 3) -> IJEPAConfig:
    tiny = presets.ijepa()
    masks = BlockMaskConfig(targets=2, target_scale=(0.1, 0.1))
    return replace(tiny, masks=masks, agreement=AgreementConfig(weight=0.5, temperature=0.5, shift=shift))


def test_the_loss_by_hand() -> None:
    # Two images whose views agree. Standardised, the features of all four are (1, -1) or (-1, 1): cosine 1 within an
    # image, -1 between them; so each view sees one likeness of 2 and two of -2, over a temperature of 0.5.
    means = torch.tensor([[[3.0, 1], [1, 5]], [[3.0, 1], [1, 5]]])
    expected = np.log(np.exp(2) + 2 * np.exp(-2)) - 2
    assert agreement(means, 0.5).tolist() == pytest.approx([expected] * 2, rel=1e-5)
    crossed = torch.stack([means[0], means[1].flip(0)])  # views that are those of the other image
    assert agreement(crossed, 0.5).tolist() == pytest.approx([expected + 4] * 2, rel=1e-5)
    assert agreement(means[:, :1], 0.5).tolist() == [0]  # nothing to confuse an image with
    assert bool(torch.isfinite(agreement(torch.ones(2, 3, 4), 0.5)).all())


def test_what_all_images_share_says_nothing() -> None:
    means = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    scale, place = torch.tensor([1, 2, 3, 4, 5.0]), torch.tensor([100.0, -50, 0, 1, 2])
    torch.testing.assert_close(agreement(means * scale + place, 0.2), agreement(means, 0.2), rtol=1e-3, atol=1e-4)


def test_views_are_moved_and_black_comes_in() -> None:
    frames = torch.arange(1, 19, dtype=torch.uint8).view(2, 1, 3, 3, 1)
    shifts = torch.tensor([[[0, 0], [1, 0]], [[0, -1], [-1, 2]]])
    moved = shifted(frames, shifts)
    assert moved.shape == (4, 1, 3, 3, 1) and moved.dtype == torch.uint8
    assert moved[:, 0, :, :, 0].tolist() == [
        [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        [[0, 0, 0], [10, 11, 12], [13, 14, 15]],  # one down
        [[2, 3, 0], [5, 6, 0], [8, 9, 0]],  # one to the left
        [[0, 0, 13], [0, 0, 16], [0, 0, 0]],  # one up, two to the right
    ]
    drawn = draw_shifts(500, 2, torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 500, 2) and drawn.unique().tolist() == [-2, -1, 0, 1, 2]


def test_each_view_has_masks_of_its_own() -> None:
    torch.manual_seed(0)
    objective = IJEPAObjective(config())
    batch = {"frames": torch.randint(0, 256, (4, 1, 32, 32, 3), dtype=torch.uint8)}
    drawn = objective.draw(4, torch.Generator().manual_seed(0))
    images, contexts, targets = objective.inputs(batch, drawn, slice(0, 4))
    assert [len(images), *contexts.shape[:2], *targets.shape[:2]] == [8, 1, 8, 2, 8]
    # What both views leave out would tell them apart from others, whatever they show.
    assert not any(torch.equal(*pair) for pair in zip(*targets[0].chunk(2), strict=True))
    losses = objective.model.losses(images, contexts, targets)
    assert set(losses) == {"prediction", "agreement"} and {value.shape for value in losses.values()} == {(4,)}
    assert "agreement" in objective.apart  # no part of the loss that is compared with the trivial one
    plain = IJEPA(replace(config(), agreement=AgreementConfig()))
    plain.load_state_dict(objective.model.state_dict())  # no parameters of its own
    each = plain.losses(images, contexts, targets)["prediction"]
    torch.testing.assert_close(losses["prediction"], each.unflatten(0, (2, 4)).mean(0))
    means = plain.encoder(images, contexts).mean(1).unflatten(0, (2, 4))
    torch.testing.assert_close(losses["agreement"], 0.5 * agreement(means, 0.5))
    losses["agreement"].mean().backward()
    norm = objective.model.encoder.norm.bias.grad
    assert norm is not None and bool(norm.any())
    assert objective.model.predictor.predictor_norm.bias.grad is None


def test_processes_see_their_rows_of_the_batch() -> None:
    objective = IJEPAObjective(config())
    batch = {"frames": torch.randint(0, 256, (4, 1, 32, 32, 3), dtype=torch.uint8)}
    drawn = objective.draw(4, torch.Generator().manual_seed(0))
    images, *masks = objective.inputs(batch, drawn, slice(0, 4))
    part, *own = objective.inputs({"frames": batch["frames"][1:3]}, drawn, slice(1, 3))
    torch.testing.assert_close(part, images.unflatten(0, (2, 4))[:, 1:3].flatten(0, 1))
    for ids, some in zip(masks, own, strict=True):
        assert torch.equal(some, ids.unflatten(1, (2, 4))[:, :, 1:3].flatten(1, 2))


def test_views_that_do_not_move_are_the_images_and_without_weight_there_is_one() -> None:
    batch = {"frames": torch.randint(0, 256, (4, 1, 32, 32, 3), dtype=torch.uint8)}
    still = IJEPAObjective(config(shift=0))
    images, *ids = still.inputs(batch, still.draw(4, torch.Generator().manual_seed(0)), slice(0, 4))
    assert torch.equal(*images.chunk(2)) and "agreement" in still.model.losses(images, *ids)
    plain = IJEPAObjective(replace(config(), agreement=AgreementConfig(shift=3)))
    images, *ids = plain.inputs(batch, plain.draw(4, torch.Generator().manual_seed(0)), slice(0, 4))
    assert len(images) == 4 and set(plain.model.losses(images, *ids)) == {"prediction"}


def test_several_contexts_of_a_view_count_together() -> None:
    torch.manual_seed(0)
    two = config()
    model = IJEPA(replace(two, masks=replace(two.masks, contexts=2)))
    images, masks = torch.rand(6, 3, 32, 32), model.masks()(6, torch.Generator().manual_seed(0))
    means = model.encoder(images, masks.context).mean(1).unflatten(0, (2, 2, 3)).mean(0)
    torch.testing.assert_close(model.losses(images, *masks)["agreement"], 0.5 * agreement(means, 0.5))


def test_updates_bring_views_of_an_image_together() -> None:
    torch.manual_seed(0)
    objective, generator = IJEPAObjective(config()), torch.Generator().manual_seed(0)
    batch = {"frames": torch.randint(0, 256, (8, 1, 8, 8, 3), dtype=torch.uint8)}
    batch["frames"] = batch["frames"].repeat_interleave(4, 2).repeat_interleave(4, 3)
    optimizer, found = torch.optim.AdamW(objective.model.encoder.parameters(), 2e-3), []
    for _ in range(30):
        loss = objective.model(*objective.inputs(batch, objective.draw(8, generator), slice(0, 8)))["agreement"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    thirds = [float(np.mean(found[i : i + 10])) for i in (0, 10, 20)]
    assert all(later < sooner for sooner, later in pairwise(thirds)), thirds


def test_the_settings_are_kept_in_a_checkpoint() -> None:
    fields = json.loads(json.dumps(ModelDocument(config=config()).to_json()))
    assert ModelDocument.from_json(fields).config == config()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weight": -1.0}, r"agreement.weight=-1.0 must be 0 or more"),
        ({"temperature": 0.0}, r"agreement.temperature=0.0 above 0"),
        ({"shift": -1}, r"agreement.shift=-1 must not be negative"),
    ],
)
def test_bad_settings_are_named(given: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AgreementConfig(**given)  # type: ignore[arg-type]


def test_a_shift_beyond_the_image_is_named() -> None:
    tiny = presets.ijepa()
    with pytest.raises(ValueError, match=r"agreement.shift=32 must be less than encoder.size=32"):
        replace(tiny, agreement=AgreementConfig(shift=32))
