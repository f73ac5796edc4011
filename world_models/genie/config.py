"""Configuration of Genie's three models; `presets.py` has published and small sizes. Torch-free."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

QUANTIZERS = ("vq", "fsq")
CONDITIONINGS = ("prepend", "add", "none")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """ST-transformer (`st_transformer.py`)."""

    width: int = 512
    """Features of a token."""
    depth: int = 8
    """Blocks, each with attention in space, attention in time and an MLP."""
    heads: int = 8
    """Attention heads."""
    mlp_ratio: float = 4.0
    """Hidden units of a block's MLP, relative to its width."""
    qk_norm: bool = False
    """Normalise queries and keys (Dehghani et al. 2023, arXiv 2302.05442)."""
    recompute: bool = False
    """Save memory in training: compute the activations inside blocks twice (gradient checkpointing)."""

    def __post_init__(self) -> None:
        _require_at_least_one(self, "width", "depth", "heads")
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(
                f"width={self.width} must give each of heads={self.heads} an even number of features; change either."
            )
        if self.mlp_ratio <= 0:
            raise ValueError(f"mlp_ratio={self.mlp_ratio} must be positive.")


@dataclass(frozen=True, kw_only=True)
class QuantizerConfig:
    """A discrete bottleneck (`quantizers.py`)."""

    kind: str = "vq"
    """`vq`: vector quantisation; `fsq`: finite scalar quantisation."""
    codes: int = 1024
    """Codes of `vq`."""
    width: int = 32
    """Numbers of a code of `vq`."""
    levels: tuple[int, ...] = (8, 5, 5, 5)
    """Values of each number of a code of `fsq`; their product is the number of codes."""
    beta: float = 0.25
    """Weight of `vq`'s commitment loss."""
    decay: float = 0.99
    """Share that an update keeps of the averages that `vq`'s codes follow."""
    dead: float = 0.02
    """A code of `vq` that is used less than this share of the mean is replaced by one of the batch's vectors."""

    def __post_init__(self) -> None:
        if self.kind not in QUANTIZERS:
            raise ValueError(f"kind={self.kind!r} is not one of {', '.join(QUANTIZERS)}.")
        if self.codes < 2 or self.width < 1:
            raise ValueError(f"codes={self.codes} must be at least 2, width={self.width} at least 1.")
        if not self.levels or min(self.levels) < 2:
            raise ValueError(f"levels={self.levels} must be whole numbers from 2.")
        if not (0 <= self.decay < 1 and 0 <= self.dead < 1 and self.beta >= 0):
            raise ValueError(
                f"decay={self.decay} and dead={self.dead} must lie in [0, 1), beta={self.beta} not below 0."
            )

    @property
    def size(self) -> int:
        """Number of codes."""
        return self.codes if self.kind == "vq" else math.prod(self.levels)


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Video tokenizer (`tokenizer.py`)."""

    family: ClassVar[str] = "genie_tokenizer"

    size: int = 64
    """Height and width of the frames, in pixels."""
    channels: int = 3
    """Channels of the frames."""
    frames: int = 16
    """Frames of a clip, and the longest memory."""
    patch: int = 4
    """Height and width of a patch, which becomes a token."""
    encoder: TransformerConfig = field(default_factory=TransformerConfig)
    decoder: TransformerConfig = field(default_factory=TransformerConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)

    def __post_init__(self) -> None:
        _require_clips(self)

    @property
    def grid(self) -> int:
        """Rows, and columns, of tokens."""
        return self.size // self.patch


@dataclass(frozen=True, kw_only=True)
class LatentActionConfig:
    """Latent action model (`latent_action.py`)."""

    family: ClassVar[str] = "genie_latent_action"

    size: int = 64
    """Height and width of the frames, in pixels."""
    channels: int = 3
    """Channels of the frames."""
    frames: int = 16
    """Frames of a clip."""
    patch: int = 16
    """Height and width of a patch."""
    encoder: TransformerConfig = field(default_factory=TransformerConfig)
    decoder: TransformerConfig = field(default_factory=TransformerConfig)
    actions: int = 8
    """Number of latent actions."""
    temperature: float = 0.05
    """Error, relative to the mean, by which an action must explain a change better than another one to be e times as
    likely (`latent_action.py`, equation 1)."""

    def __post_init__(self) -> None:
        _require_clips(self)
        if self.actions < 2:
            raise ValueError(f"actions={self.actions} must be at least 2.")
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature} must be positive.")
        if self.frames < 2:
            raise ValueError(f"frames={self.frames}: an action lies between two frames, so clips need at least 2.")

    @property
    def grid(self) -> int:
        """Rows, and columns, of patches."""
        return self.size // self.patch


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """Dynamics (`dynamics.py`)."""

    transformer: TransformerConfig = field(default_factory=lambda: TransformerConfig(depth=12, qk_norm=True))
    conditioning: str = "prepend"
    """`prepend`: the action is a token beside those of the frame that it leads to; `add`: it is added to them; `none`:
    it is not shown, to measure what actions are worth."""
    mask_low: float = 0.5
    """The share of tokens that are masked in training is drawn between this and 1."""
    steps: int = 25
    """Steps of MaskGIT in which a frame is sampled."""
    temperature: float = 1.0
    """Temperature of sampling; 0 takes the likeliest token."""

    def __post_init__(self) -> None:
        if self.conditioning not in CONDITIONINGS:
            raise ValueError(f"conditioning={self.conditioning!r} is not one of {', '.join(CONDITIONINGS)}.")
        if not 0 <= self.mask_low < 1:
            raise ValueError(f"mask_low={self.mask_low} must lie in [0, 1).")
        if self.steps < 1 or not self.temperature >= 0:
            raise ValueError(f"steps={self.steps} must be at least 1, temperature={self.temperature} not below 0.")


@dataclass(frozen=True, kw_only=True)
class GenieConfig:
    """A world: the tokenizer, the latent action model and the dynamics (`genie.py`)."""

    family: ClassVar[str] = "genie"

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    latent_action: LatentActionConfig = field(default_factory=LatentActionConfig)
    """Not part of a world with real actions."""
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    real_actions: int = 0
    """If positive, the world is conditioned on recorded actions, vectors of so many numbers (one-hot if discrete)."""

    def __post_init__(self) -> None:
        if self.real_actions < 0:
            raise ValueError(f"real_actions={self.real_actions} must not be negative; 0 means latent actions.")
        if self.frames < 2:
            raise ValueError(f"The tokenizer's frames={self.frames}; a world needs clips of at least 2 frames.")
        for name in ("size", "channels"):
            ours, theirs = getattr(self.tokenizer, name), getattr(self.latent_action, name)
            if not self.real_actions and ours != theirs:
                raise ValueError(
                    f"The tokenizer has {name}={ours}, the latent action model {theirs}; train both on the same frames."
                )

    @property
    def size(self) -> int:
        """Height and width of the frames, in pixels."""
        return self.tokenizer.size

    @property
    def channels(self) -> int:
        """Channels of the frames."""
        return self.tokenizer.channels

    @property
    def frames(self) -> int:
        """Frames of a clip, and the longest memory."""
        return self.tokenizer.frames

    @property
    def actions(self) -> int:
        """Number of latent actions, or numbers of a real one."""
        return self.real_actions or self.latent_action.actions


def _require_at_least_one(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name}={getattr(config, name)} must be at least 1.")


def _require_clips(config: TokenizerConfig | LatentActionConfig) -> None:
    _require_at_least_one(config, "size", "channels", "frames", "patch")
    if config.size % config.patch:
        raise ValueError(f"size={config.size} must be a multiple of patch={config.patch}.")
