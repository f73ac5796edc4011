"""Measures of latent actions: what they tell of the next frame, and of the true action.

Legend: B clips of a batch, T frames, A numbers of an action.
"""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from learner.video_quality.image_quality import psnr, squared_error
from learner.video_quality.information import counts, normalized_mutual_information, perplexity
from world_models.genie.latent_action import LatentActionModel
from world_models.genie.pixels import as_unit, patches

Batch = Mapping[str, Tensor]


@torch.no_grad()
def latent_action_measures(model: LatentActionModel, batches: Iterable[Batch], seed: int = 0) -> dict[str, float]:
    """`psnr_1`: the frames that the decoder predicts from the true ones before and the latent actions; `copy_psnr_1`:
    the frames before; `action_perplexity` and `actions_used`; with true actions, `consistency` too."""
    parts = [_predicted(model, batch) for batch in batches]
    found = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    used = counts(found["latent"], model.config.actions)
    out = {"psnr_1": psnr(found["errors"]), "copy_psnr_1": psnr(found["copied"])}
    out |= {"action_perplexity": perplexity(used), "actions_used": float((used > 0).sum())}
    if "actions" in found:
        out |= consistency(found["latent"], found["actions"], found["changed"], seed)
    return out


def consistency(
    latent: Int[Tensor, "B T-1"], true: Float[Tensor, "B T-1 A"], changed: Bool[Tensor, "B T-1"], seed: int = 0
) -> dict[str, float]:
    """`action_nmi`: normalised mutual information of latent and true actions, and `shuffled_nmi`: that of chance, with
    the true ones in another order. Only transitions that change the frame count: the others show no action. Empty if
    true actions are not discrete."""
    if not bool(((true == 0) | (true == 1)).all()):
        return {}
    _, names = true[changed].unique(dim=0, return_inverse=True)
    codes = latent[changed]
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).to(names.device)
    return {
        "action_nmi": normalized_mutual_information(codes, names),
        "shuffled_nmi": normalized_mutual_information(codes, names[order]),
    }


def changes(frames: UInt8[Tensor, "B T S S C"]) -> Bool[Tensor, "B T-1"]:
    """Whether each frame differs from the one before."""
    return (frames[:, 1:] != frames[:, :-1]).flatten(2).any(-1)


def _predicted(model: LatentActionModel, batch: Batch) -> dict[str, Tensor]:
    frames = batch["frames"]
    latent = model.infer(frames)
    following = patches(as_unit(frames[:, 1:]), model.config.patch)
    errors = (model.predict(frames[:, :-1], latent).clamp(0, 1) - following).square().mean((2, 3))
    out = {"latent": latent, "errors": errors, "copied": squared_error(frames[:, :-1], frames[:, 1:])}
    if "actions" in batch:
        out |= {"actions": batch["actions"], "changed": changes(frames)}
    return out
