"""A world measured on held-out clips. Legend: B clips of a batch, N of all, T frames, K generated ones, D features."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from learner.video_quality.control import action_shuffle_ratio, delta_psnr
from learner.video_quality.frechet import clip_features, frechet_distance
from learner.video_quality.image_quality import WINDOW, psnr, squared_error, ssim
from learner.video_quality.latent_action import changes, consistency
from learner.video_quality.rollout import reordered, roll_out
from learner.video_quality.tokenizer import coding
from world_models.genie.dynamics import Sampling
from world_models.genie.genie import Genie
from world_models.jepa.vjepa2 import VJEPA2

HORIZONS = (1, 4)
"""Steps ahead at which predictions are measured."""


@torch.no_grad()
def evaluate(
    model: Genie,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    seed: int = 0,
    horizons: tuple[int, ...] = HORIZONS,
    sampling: Sampling | None = None,
    encoder: VJEPA2 | None = None,
) -> dict[str, Any]:
    """Measures of a world on batches of clips, all of one length.

    The last `max(horizons)` frames are generated from those before, with latent actions inferred from the true frames,
    or with the real actions. For k of the horizons: `psnr_k`, `ssim_k` of the k-th frame; `copy_psnr_k`,
    `copy_ssim_k` of the last frame before, on the same clips; `delta_psnr_k` and `delta_psnr_k_interval`, 95 %. Then
    `token_accuracy` and `cross_entropy` of masked tokens, `action_shuffle_ratio`; `tokenizer_psnr`,
    `codebook_perplexity`, `codebook_used`; `action_nmi`, `shuffled_nmi` where latent and true discrete actions are
    known; with an `encoder`, `frechet_distance` of the generated frames to the true ones, and `copy_frechet_distance`
    of the frames before. `clips` counts the clips. ValueError: clips are too short, or real actions are missing.
    """
    generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    parts = [_measured(model, batch, max(horizons), generator, sampling, encoder) for batch in batches]
    found = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}  # [N ...]
    out: dict[str, Any] = {"clips": len(found["errors"])}
    for k in horizons:
        for name, kind in (("", "errors"), ("copy_", "copied")):
            out[f"{name}psnr_{k}"] = psnr(found[kind][:, k - 1])
        for name in ("ssim", "copy_ssim"):
            if name in found:
                out[f"{name}_{k}"] = float(found[name][:, k - 1].mean())
        delta = delta_psnr(found["errors"][:, k - 1], found["random"][:, k - 1], seed=seed)
        out |= {f"delta_psnr_{k}": delta.value, f"delta_psnr_{k}_interval": [delta.low, delta.high]}
    out["action_shuffle_ratio"] = action_shuffle_ratio(found["loss"], found["shuffled_loss"])
    out |= {"cross_entropy": float(found["loss"].mean()), "token_accuracy": float(found["accuracy"].mean())}
    out |= coding(found["tokens"], found["round_trip"], model.config.tokenizer.quantizer.size)
    if "latent" in found and "actions" in found:
        out |= consistency(found["latent"], found["actions"], found["changed"], seed)
    if encoder is not None:
        true = found["true_features"]
        out["frechet_distance"] = frechet_distance(true, found["features"])
        out["copy_frechet_distance"] = frechet_distance(true, found["copied_features"])
    return out


def _measured(
    model: Genie, batch: Mapping[str, Tensor], steps: int, generator: torch.Generator, sampling: Sampling | None,
    encoder: VJEPA2 | None,
) -> dict[str, Tensor]:  # fmt: skip
    """What one batch gives, each `[B ...]`."""
    frames = batch["frames"]
    if frames.shape[1] <= steps:
        raise ValueError(
            f"Clips of {frames.shape[1]} frames leave none to generate {steps} frames from; take longer ones."
        )
    real = model.config.real_actions > 0
    if real and "actions" not in batch:
        raise ValueError("This world was trained with real actions, and the clips have none; name data with actions.")
    actions = batch["actions"] if real else model.infer_actions(frames)
    shown = roll_out(model, frames, actions, steps, generator, sampling)
    out = {
        "errors": squared_error(shown.generated, shown.truth),
        "random": squared_error(shown.random, shown.truth),
        "copied": squared_error(shown.copied, shown.truth),
    }
    if min(frames.shape[2:4]) >= WINDOW:
        out |= {"ssim": _ssim(shown.generated, shown.truth), "copy_ssim": _ssim(shown.copied, shown.truth)}
    tokens = model.encode(frames)
    out |= {"tokens": tokens, "round_trip": squared_error(model.decode(tokens), frames)}
    masked = _masks(tokens, model.config.dynamics.mask_low, generator)
    out["loss"], out["accuracy"] = _recovered(model, tokens, actions, masked)
    out["shuffled_loss"], _ = _recovered(model, tokens, reordered(actions, generator), masked)
    if not real:
        out["latent"] = actions
    if "actions" in batch:
        out |= {"actions": batch["actions"], "changed": changes(frames)}
    if encoder is not None:
        kinds = {"features": shown.generated, "true_features": shown.truth, "copied_features": shown.copied}
        out |= {name: clip_features(encoder, clips) for name, clips in kinds.items()}
    return out


def _ssim(a: UInt8[Tensor, "B K S S C"], b: UInt8[Tensor, "B K S S C"]) -> Float[Tensor, "B K"]:
    return ssim(a.flatten(0, 1), b.flatten(0, 1)).view(a.shape[:2])


def _masks(tokens: Int[Tensor, "B T N"], low: float, generator: torch.Generator) -> Bool[Tensor, "B T N"]:
    """Masks as in training: a share of the tokens of all frames but the first."""
    device = generator.device
    rates = low + (1 - low) * torch.rand(len(tokens), 1, 1, generator=generator, device=device)
    masked = torch.rand(tokens.shape, generator=generator, device=device) < rates
    masked[:, 0] = False
    return masked


def _recovered(
    model: Genie, tokens: Int[Tensor, "B T N"], actions: Tensor, masked: Bool[Tensor, "B T N"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Cross-entropy of the masked tokens, and the share of them that is likeliest."""
    logits = model.dynamics(tokens, model.vectors(actions), masked).float()
    entropy = F.cross_entropy(logits.movedim(-1, 1), tokens, reduction="none")
    right, number = (logits.argmax(-1) == tokens) & masked, masked.sum((1, 2)).clamp_min(1)
    return (entropy * masked).sum((1, 2)) / number, right.sum((1, 2)) / number
