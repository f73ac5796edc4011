"""ijepa.npz: encoders, predictor, loss, gradients, and one update of the optimiser and of the target encoder."""

import numpy as np
from torch import Tensor, nn

from learner.adamw import AdamW
from tests.parity.check import KINDS, Check
from world_models.jepa.config import EncoderConfig, IJEPAConfig, PredictorConfig
from world_models.jepa.ijepa import IJEPA
from world_models.jepa.losses import normalized

# Adam's first step divides by |gradient|: below this one its sign may be rounding noise.
NOISE = 1e-6


def load_parts(check: Check, model: nn.Module, parts: tuple[str, ...]) -> None:
    """The file's parameters, all of them and no others."""
    model.load_state_dict({f"{part}.{name}": x for part in parts for name, x in check.tensors(f"{part}/").items()})


def compare_gradients(check: Check, model: nn.Module) -> None:
    for name, p in model.named_parameters():
        if p.requires_grad:
            grad = p.new_zeros(p.shape) if p.grad is None else p.grad
            check.compare(f"grad/{name.replace('.', '/', 1)}", grad, "activation")


def number(check: Check, name: str) -> int:
    return int(check.input(f"config/{name}"))


def check_ijepa(check: Check) -> None:
    config = IJEPAConfig(
        encoder=EncoderConfig(
            size=number(check, "img"), patch=number(check, "patch"), channels=number(check, "in_chans"),
            width=number(check, "D"), depth=number(check, "depth"), heads=number(check, "heads"),
        ),
        predictor=PredictorConfig(
            width=number(check, "PD"), depth=number(check, "pdepth"), heads=number(check, "heads")
        ),
    )  # fmt: skip
    model = IJEPA(config)
    # The fixed positions are ours, not the file's.
    for name, ours in (
        ("encoder/pos_embed", model.encoder.pos_embed),
        ("target_encoder/pos_embed", model.target_encoder.pos_embed),
        ("predictor/predictor_pos_embed", model.predictor.predictor_pos_embed),
    ):
        check.compare(name, ours.clone(), "activation")
    load_parts(check, model, ("encoder", "predictor", "target_encoder"))
    images, contexts, targets = (check.tensor(f"in/{name}") for name in ("images", "masks_enc", "masks_pred"))
    shape = tuple(number(check, name) for name in ("nenc", "npred", "B"))
    assert (len(contexts), len(targets), len(images)) == shape, "masks or images do not agree with the configuration"
    check.inputs("config/")

    raw = model.target_encoder(images)
    outputs = {
        "encoder_full": model.encoder(images),
        "target_raw": raw,
        "target_ln": normalized(raw),
        "target_masked": model.targets(images, targets, len(contexts)),
        "context": model.encoder(images, contexts),
        "prediction": model.predict(images, contexts, targets),
    }
    for name, value in outputs.items():
        check.compare(f"out/{name}", value, "activation")
    loss = model(images, contexts, targets)["prediction"].mean()
    check.compare("out/loss", loss, "scalar")
    loss.backward()
    compare_gradients(check, model)
    check_update(check, model)


def check_update(check: Check, model: IJEPA) -> None:
    """`after_step`: one update as the trainer makes it. Elements with a gradient of rounding noise may be two steps
    off."""
    rate, decay, momentum = (float(check.input(f"step/{name}")) for name in ("lr", "wd", "ema"))
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    AdamW((name, p) for name, p in model.named_parameters() if p.requires_grad).step(rate, decay)
    model.update_target(momentum)
    room = 2.1 * rate / KINDS["activation"].tolerance

    def scale(grad: Tensor, share: float) -> np.ndarray:
        return np.where(grad.abs().numpy() > NOISE, 1.0, max(1.0, room * share))

    for name, p in model.named_parameters():
        part, rest = name.split(".", 1)
        slow = part == "target_encoder"
        grad = grads[f"encoder.{rest}" if slow else name]
        check.compare(f"after_step/{part}/{rest}", p, "activation", scale=scale(grad, 1 - momentum if slow else 1.0))
