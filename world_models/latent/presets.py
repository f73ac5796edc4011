"""Sizes of latent world models. Torch-free."""

from world_models.latent.config import EncoderConfig, LatentWorldConfig, PredictorConfig, RegulariserConfig

SIZES = ("tiny", "base")


def latent_world(size: str = "tiny", action: int = 2) -> LatentWorldConfig:
    """`tiny`, for minutes on a CPU, or `base`, about 15 million parameters. ValueError names them."""
    if size == "tiny":
        return LatentWorldConfig(
            encoder=EncoderConfig(kind="cnn", width=16, depth=4, hidden=256),
            predictor=PredictorConfig(width=128, depth=2, heads=2),
            regulariser=RegulariserConfig(weight=1.0, projections=256),
            latent=32, action=action, frames=8, history=1, rollout=4, inverse=1.0,
        )  # fmt: skip
    if size == "base":
        return LatentWorldConfig(action=action)
    raise ValueError(f"A latent world model has no size {size!r}; there are {', '.join(SIZES)}.")
