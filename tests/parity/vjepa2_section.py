"""vjepa2.npz: encoders, predictor, loss and gradients over groups of clips, rotary positions, attentive probes."""

import re

from tests.parity.check import Check
from tests.parity.ijepa_section import compare_gradients, load_parts, number
from world_models.jepa.block_masks import MaskIds
from world_models.jepa.config import EncoderConfig, PredictorConfig, VJEPA2Config
from world_models.jepa.probe import AttentiveProbe
from world_models.jepa.vjepa2 import VJEPA2
from world_models.rope import Rotation, apart, axis_rotation, rotate, together


def numbered(check: Check, pattern: str) -> list[int]:
    """The numbers that names of arrays hold where `pattern` has a group."""
    return sorted({int(found[1]) for name in check.names() if (found := re.match(pattern, name))})


def check_vjepa2(check: Check) -> None:
    config = VJEPA2Config(
        encoder=EncoderConfig(
            size=number(check, "img"), patch=number(check, "patch"), tubelet=number(check, "tub"),
            channels=check.tensor("in/clip0").shape[1], width=number(check, "D"), depth=number(check, "depth"),
            heads=number(check, "heads"), mlp_ratio=float(check.input("config/mlp")),
        ),
        predictor=PredictorConfig(
            width=number(check, "PD"), depth=number(check, "pdepth"), heads=number(check, "pheads"),
            mask_tokens=number(check, "nmask"),
        ),
    )  # fmt: skip
    model = VJEPA2(config)
    load_parts(check, model, ("encoder", "predictor", "target_encoder"))
    clips = [check.tensor(f"in/clip{i}") for i in numbered(check, r"in/clip(\d+)$")]
    assert [x.shape[2] for x in clips] == check.input("config/frames").tolist(), "clips are not as long as configured"
    masks = [
        [
            MaskIds(check.tensor(f"in/mask_enc{i}_{j}"), check.tensor(f"in/mask_pred{i}_{j}"))
            for j in numbered(check, rf"in/mask_enc{i}_(\d+)$")
        ]
        for i in range(len(clips))
    ]
    check.inputs("config/")
    for i, (clip, pairs) in enumerate(zip(clips, masks, strict=True)):
        check.compare(f"out/encoder_full{i}", model.encoder(clip), "activation")
        check.compare(f"out/target_ln{i}", model.targets(clip), "activation")
        for j, (pair, prediction) in enumerate(zip(pairs, model.predict(clip, pairs, i), strict=True)):
            check.compare(f"out/context{i}_{j}", model.encoder(clip, pair.context), "activation")
            check.compare(f"out/prediction{i}_{j}", prediction, "activation")
    first = masks[0][0]
    bare = model.predictor(model.encoder(clips[0], first.context), *first)
    check.compare("out/prediction_bare0_0", bare, "activation")
    for name in ("nonsquare", "image"):
        if f"in/{name}" in check.arrays:
            check.compare(f"out/{name}", model.encoder(check.tensor(f"in/{name}")), "activation")
    loss = model(clips, masks)["prediction"].mean()
    check.compare("out/loss", loss, "scalar")
    loss.backward()
    compare_gradients(check, model)
    if "rope/x" in check.arrays:
        x, positions = check.tensor("rope/x"), check.tensor("rope/pos")
        rotation = Rotation(*(apart(table) for table in axis_rotation(positions, x.shape[-1])))
        check.compare("rope/y", together(rotate(apart(x), rotation)), "activation")
    for depth in numbered(check, r"probe(\d+)/"):
        parameters = check.tensors(f"probe{depth}/")
        classes, width = parameters["linear.weight"].shape
        probe = AttentiveProbe(width, classes, heads=config.encoder.heads, depth=depth)
        probe.load_state_dict(parameters)
        check.compare(f"out/probe{depth}_logits", probe(model.encoder(clips[0])), "activation")
