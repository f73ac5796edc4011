"""Sizes of Genie's models: tiny ones for a CPU, those of the CoinRun case study, and the published ones."""

from world_models.genie.config import (
    DynamicsConfig,
    GenieConfig,
    LatentActionConfig,
    QuantizerConfig,
    TokenizerConfig,
    TransformerConfig,
)

SIZES = ("tiny", "coinrun", "paper")
_TINY = TransformerConfig(width=64, depth=2, heads=4)
_LARGE = TransformerConfig(width=1024, depth=20, heads=16)


def tokenizer(size: str = "tiny") -> TokenizerConfig:
    """One of `SIZES`. ValueError names them."""
    _require_size(size)
    if size == "tiny":
        return TokenizerConfig(size=32, frames=8, encoder=_TINY, decoder=_TINY, quantizer=QuantizerConfig(width=8))
    if size == "coinrun":
        return TokenizerConfig()
    return TokenizerConfig(encoder=TransformerConfig(depth=12), decoder=_LARGE)


def latent_action(size: str = "tiny") -> LatentActionConfig:
    """One of `SIZES`. ValueError names them."""
    _require_size(size)
    if size == "tiny":
        return LatentActionConfig(size=32, frames=2, patch=4, encoder=_TINY, decoder=_TINY, actions=6)
    if size == "coinrun":
        return LatentActionConfig(actions=6)
    return LatentActionConfig(encoder=_LARGE, decoder=_LARGE)


def dynamics(size: str = "tiny") -> DynamicsConfig:
    """One of `SIZES`; `paper` has the published 10.1 billion parameters as 24 blocks. ValueError names them."""
    _require_size(size)
    if size == "tiny":
        blocks = TransformerConfig(width=64, depth=3, heads=4)
        return DynamicsConfig(transformer=blocks, conditioning="add", mask_low=0.9, steps=8)
    if size == "coinrun":
        return DynamicsConfig()
    return DynamicsConfig(transformer=TransformerConfig(width=5120, depth=24, heads=40, qk_norm=True), temperature=2.0)


def genie(size: str = "tiny") -> GenieConfig:
    """All three. ValueError names the sizes."""
    return GenieConfig(tokenizer=tokenizer(size), latent_action=latent_action(size), dynamics=dynamics(size))


def _require_size(size: str) -> None:
    if size not in SIZES:
        raise ValueError(f"Genie has no size {size!r}; there are {', '.join(SIZES)}.")
