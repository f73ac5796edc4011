"""The published sizes of I-JEPA, V-JEPA 2 and V-JEPA 2-AC, and tiny ones for tests and small machines. Torch-free."""

from world_models.jepa.config import (
    AgreementConfig,
    BlockMaskConfig,
    EncoderConfig,
    IJEPAConfig,
    PredictorConfig,
    SpreadConfig,
    TubeMaskConfig,
    VJEPA2ACConfig,
    VJEPA2Config,
)

GIANT_MLP = 48 / 11

# name: width, depth, heads, ratio of the MLP
WIDTHS = {
    "vitl": (1024, 24, 16, 4.0),
    "vith": (1280, 32, 16, 4.0),
    "vitg": (1408, 40, 22, GIANT_MLP),
}
# name: pixels, patch, encoder, predictor's depth
IJEPA_SIZES = {
    "vith14": (224, 14, "vith", 12),
    "vith16_448": (448, 16, "vith", 12),
    "vitg16": (224, 16, "vitg", 16),
}
VJEPA2_SIZES = {"vitl": ("vitl", 256), "vith": ("vith", 256), "vitg": ("vitg", 256), "vitg_384": ("vitg", 384)}

NARROW = PredictorConfig(width=48, depth=2, heads=4)
APART = SpreadConfig(variance=1.0, covariance=0.1)
"""Without it small encoders collapse on small batches."""

AGREEING = AgreementConfig(weight=0.3, temperature=0.1, shift=5)
"""Without it an encoder that trains for minutes learns little of what an image shows."""
MOVING_ALIKE = AgreementConfig(weight=1.0, temperature=0.1, shift=6, reversed=True)
"""Without it the same happens with clips: still textures are easier to predict than what moves."""


def published_encoder(name: str, size: int, patch: int = 16, tubelet: int = 0) -> EncoderConfig:
    """The encoder `vitl`, `vith` or `vitg`."""
    width, depth, heads, ratio = WIDTHS[name]
    if not tubelet and name == "vitg":
        heads = 16  # I-JEPA's ViT-g has as many as its ViT-H
    return EncoderConfig(
        size=size, patch=patch, tubelet=tubelet, width=width, depth=depth, heads=heads, mlp_ratio=ratio
    )


def tiny_encoder(size: int = 32, patch: int = 4, tubelet: int = 0, width: int = 64, depth: int = 3) -> EncoderConfig:
    """An encoder that trains in minutes on a CPU."""
    return EncoderConfig(size=size, patch=patch, tubelet=tubelet, width=width, depth=depth, heads=4)


def whole_frames(duration: float) -> TubeMaskConfig:
    """One block of whole frames: what moves in the frames that are left foretells those that are hidden."""
    return TubeMaskConfig(blocks=1, scale=(1.0, 1.0), aspect=(1.0, 1.0), duration=(duration, duration))


def ijepa(size: str = "tiny") -> IJEPAConfig:
    """`tiny`, `digits`, or a published size. ValueError names them."""
    if size == "digits":
        masks = BlockMaskConfig(targets=1, context_scale=(0.4, 0.6))
        return IJEPAConfig(encoder=tiny_encoder(), predictor=NARROW, masks=masks, agreement=AGREEING)
    if size == "tiny":
        return IJEPAConfig(encoder=tiny_encoder(), predictor=PredictorConfig(width=32, depth=2, heads=4))
    pixels, patch, encoder, depth = _published("I-JEPA", IJEPA_SIZES, size)
    predictor = PredictorConfig(depth=depth, heads=16)
    return IJEPAConfig(encoder=published_encoder(encoder, pixels, patch), predictor=predictor)


def vjepa2(size: str = "tiny") -> VJEPA2Config:
    """`tiny`, `motion`, or a published size. ValueError names them."""
    if size == "motion":
        encoder = tiny_encoder(patch=8, tubelet=2)
        return VJEPA2Config(
            encoder=encoder, predictor=NARROW, frames=8, short_masks=whole_frames(0.5), long_masks=whole_frames(0.75),
            spread=APART, agreement=MOVING_ALIKE,
        )  # fmt: skip
    if size == "tiny":
        predictor = PredictorConfig(width=48, depth=2, heads=4, mask_tokens=2)
        return VJEPA2Config(encoder=tiny_encoder(tubelet=2), predictor=predictor, frames=8)
    encoder, pixels = _published("V-JEPA 2", VJEPA2_SIZES, size)
    return VJEPA2Config(encoder=published_encoder(encoder, pixels, tubelet=2))


def vjepa2_ac(size: str = "tiny", action: int = 2, state: int = 0) -> VJEPA2ACConfig:
    """`tiny` for any `action` and `state`, or the published `vitg`. ValueError names them."""
    if size == "tiny":
        predictor = PredictorConfig(width=64, depth=3, heads=4, mask_tokens=0)
        update = "add" if state == action else "hold"
        return VJEPA2ACConfig(
            encoder=tiny_encoder(tubelet=2), predictor=predictor, action=action, state=state, state_update=update
        )
    encoder, pixels = _published("V-JEPA 2-AC", {"vitg": ("vitg", 256)}, size)
    return VJEPA2ACConfig(encoder=published_encoder(encoder, pixels, tubelet=2), extrinsics=6)


def _published(model: str, sizes: dict[str, tuple], size: str) -> tuple:
    if size not in sizes:
        raise ValueError(f"{model} has no size {size!r}; there are tiny, {', '.join(sizes)}.")
    return sizes[size]
