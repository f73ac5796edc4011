"""Configuration of latent world models; `presets.py` has sizes. Torch-free."""

from dataclasses import dataclass, field
from typing import ClassVar

KINDS = ("vit", "cnn")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The network that makes one latent of a frame (`encoder.py`)."""

    kind: str = "vit"
    """`vit`, a vision transformer, or `cnn`, convolutions, which see where things are after far fewer updates."""
    size: int = 64
    """Height and width of the frames, in pixels."""
    channels: int = 3
    """Channels of the frames."""
    width: int = 192
    """Features of a token; of `cnn`, channels after the first convolution (each further one doubles them, up to four
    times as many)."""
    depth: int = 12
    """Transformer blocks; of `cnn`, convolutions, each of which halves height and width."""
    hidden: int = 2048
    """Hidden units of the projection to the latent."""
    patch: int = 8
    """Height and width of a patch, of `vit`."""
    heads: int = 3
    """Attention heads, of `vit`."""
    mlp_ratio: float = 4.0
    """Hidden units of a block's MLP, relative to its width, of `vit`."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"encoder.kind={self.kind!r} is not one of {', '.join(KINDS)}.")
        _require_at_least_one(self, "encoder", "size", "patch", "channels", "width", "depth", "heads", "hidden")
        if self.kind == "cnn":
            if self.size % 2**self.depth:
                raise ValueError(
                    f"encoder.size={self.size} must be a multiple of {2**self.depth}: encoder.depth={self.depth} "
                    "convolutions halve it as many times."
                )
            return
        _require_heads("encoder", self.width, self.heads)
        if self.size % self.patch:
            raise ValueError(f"encoder.size={self.size} must be a multiple of encoder.patch={self.patch}.")
        if self.width % 4:
            raise ValueError(f"encoder.width={self.width} must be a multiple of 4 for two-dimensional positions.")

    @property
    def grid(self) -> int:
        """Rows, and columns, of patches."""
        return self.size // self.patch


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """Causal transformer, one token a frame (`predictor.py`)."""

    width: int = 320
    """Features of a token."""
    depth: int = 6
    """Transformer blocks."""
    heads: int = 16
    """Attention heads."""
    mlp_ratio: float = 4.0
    """Hidden units of a block's MLP, relative to its width."""

    def __post_init__(self) -> None:
        _require_at_least_one(self, "predictor", "width", "depth", "heads")
        _require_heads("predictor", self.width, self.heads)


@dataclass(frozen=True, kw_only=True)
class RegulariserConfig:
    """What keeps latents apart (`regulariser.py`)."""

    weight: float = 10.0
    """Of its loss, beside the squared error of predictions."""
    projections: int = 1024
    """Random directions of an update."""
    knots: int = 17
    """Points at which characteristic functions are compared."""
    reach: float = 3.0
    """The largest of them; the smallest is 0."""

    def __post_init__(self) -> None:
        _require_at_least_one(self, "regulariser", "projections")
        if self.knots < 2:
            raise ValueError(f"regulariser.knots={self.knots} must be at least 2, the ends of the integral.")
        if self.weight < 0:
            raise ValueError(f"regulariser.weight={self.weight} must not be negative; 0 lets latents collapse.")
        if self.reach <= 0:
            raise ValueError(f"regulariser.reach={self.reach} must be positive.")


@dataclass(frozen=True, kw_only=True)
class LatentWorldConfig:
    """A latent world model (`latent_world.py`)."""

    family: ClassVar[str] = "latent_world"

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    regulariser: RegulariserConfig = field(default_factory=RegulariserConfig)
    latent: int = 192
    """Numbers in a latent."""
    action: int = 2
    """Numbers in an action."""
    frames: int = 4
    """Frames of a training clip."""
    history: int = 3
    """Frames that a prediction is made from."""
    rollout: int = 1
    """Frames that are predicted one after another, the first from real frames, each further one from predictions."""
    inverse: float = 0.0
    """Weight of the inverse-dynamics loss: the action told from the latents before and after it. 0: none."""

    def __post_init__(self) -> None:
        for name in ("latent", "action", "history", "rollout"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if self.frames < self.history + self.rollout:
            raise ValueError(
                f"frames={self.frames} must be at least history={self.history} plus rollout={self.rollout}: "
                "predictions are compared with frames that follow."
            )
        if self.inverse < 0:
            raise ValueError(f"inverse={self.inverse} must not be negative; 0 leaves the inverse-dynamics loss out.")


def _require_at_least_one(owner: object, part: str, *names: str) -> None:
    for name in names:
        if (value := getattr(owner, name)) < 1:
            raise ValueError(f"{part}.{name}={value} must be at least 1.")


def _require_heads(part: str, width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"{part}.width={width} must be a multiple of {part}.heads={heads}.")
