"""vjepa2_ac.npz: features of single frames, predictions from real and predicted frames, losses, gradients, mask."""

import re

import torch
from torch import Tensor

from tests.parity.check import Check
from tests.parity.ijepa_section import compare_gradients, load_parts, number
from world_models.jepa.config import EncoderConfig, PredictorConfig, VJEPA2ACConfig
from world_models.jepa.vjepa2_ac import VJEPA2AC
from world_models.vit import causal_attention


def check_vjepa2_ac(check: Check) -> None:
    clips, actions, states = (check.tensor(f"in/{name}") for name in ("clips", "actions", "states"))
    extrinsics = check.tensor("in/extrinsics")
    config = VJEPA2ACConfig(
        encoder=EncoderConfig(
            size=number(check, "img"), patch=number(check, "patch"), tubelet=number(check, "tub"),
            channels=clips.shape[1], width=number(check, "D"), depth=number(check, "depth"),
            heads=number(check, "heads"),
        ),
        predictor=PredictorConfig(
            width=number(check, "PD"), depth=number(check, "pdepth"), heads=number(check, "pheads"), mask_tokens=0
        ),
        action=number(check, "adim"), state=states.shape[-1], extrinsics=extrinsics.shape[-1],
        use_extrinsics=bool(number(check, "extr")), state_update="hold", frames=number(check, "T"),
        rollout=number(check, "auto"),
    )  # fmt: skip
    model = VJEPA2AC(config)
    load_parts(check, model, ("encoder", "predictor"))
    check.inputs("config/")

    latents = model.encode(clips)
    check.compare("out/features_ln", latents.flatten(1, 2), "activation")
    raw, _ = model.predictor(latents[:, :-1], actions, states[:, :-1], extrinsics[:, :-1])
    check.compare("out/predictor_raw", raw.flatten(1, 2), "activation")
    forced, rollout = model.predictions(latents, actions, states, extrinsics)
    check.compare("out/z_tf", forced.flatten(1, 2), "activation")
    check.compare("out/z_ar", rollout.flatten(1, 2), "activation")
    losses = {name: loss.mean() for name, loss in model(clips, actions, states, extrinsics).items()}
    total = losses["teacher_forcing"] + losses["rollout"]
    for name, loss in (*losses.items(), ("", total)):
        check.compare(f"out/loss_{name}".rstrip("_"), loss, "scalar")
    total.backward()
    compare_gradients(check, model)
    for name in check.names():
        if found := re.fullmatch(r"out/attn_mask_T(\d+)", name):
            check.compare(name, attended(int(found[1]), model.predictor.frame_tokens))


def attended(frames: int, tokens: int) -> Tensor:
    """Which token (row) attends to which: equal weights of equal keys, read off values that are unit vectors."""
    alike, units = torch.zeros(1, 1, frames * tokens, 8), torch.eye(frames * tokens)[None, None]
    return causal_attention(alike, alike, units, frames)[0, :, 0] > 0
