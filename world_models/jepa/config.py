"""Configuration of I-JEPA, V-JEPA 2 and V-JEPA 2-AC; `presets.py` has the published sizes. Torch-free."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

POSE = 7
"""Numbers in a robot arm's pose: position, Euler angles, gripper."""
STATE_UPDATES = ("add", "pose", "hold")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Vision transformer over patches (`encoder.py`)."""

    size: int = 224
    """Height and width of the images, in pixels."""
    patch: int = 16
    """Height and width of a patch."""
    tubelet: int = 0
    """Frames that a token spans; 0 for images."""
    channels: int = 3
    """Channels of the images."""
    width: int = 1024
    """Features of a token."""
    depth: int = 24
    """Transformer blocks."""
    heads: int = 16
    """Attention heads."""
    mlp_ratio: float = 4.0
    """Hidden units of a block's MLP, relative to its width."""
    recompute: bool = False
    """Save memory in training: compute the activations inside blocks twice (gradient checkpointing)."""

    def __post_init__(self) -> None:
        _require_at_least_one(self, "size", "patch", "channels", "width", "depth", "heads")
        _require_heads(self)
        if self.size % self.patch:
            raise ValueError(f"encoder.size={self.size} must be a multiple of encoder.patch={self.patch}.")
        if self.tubelet < 0:
            raise ValueError(f"encoder.tubelet={self.tubelet} must be 0 for images, or a number of frames.")

    @property
    def grid(self) -> int:
        """Rows, and columns, of patches."""
        return self.size // self.patch


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """Narrow vision transformer that predicts tokens (`predictor.py`, `action_predictor.py`)."""

    width: int = 384
    """Features of a token."""
    depth: int = 12
    """Transformer blocks."""
    heads: int = 12
    """Attention heads."""
    mlp_ratio: float = 4.0
    """Hidden units of a block's MLP, relative to its width."""
    mask_tokens: int = 1
    """Learnt mask tokens; V-JEPA 2 has one for each clip length."""
    recompute: bool = False
    """Save memory in training: compute the activations inside blocks twice (gradient checkpointing)."""

    def __post_init__(self) -> None:
        _require_at_least_one(self, "width", "depth", "heads")
        _require_heads(self)


@dataclass(frozen=True, kw_only=True)
class BlockMaskConfig:
    """Multi-block masks of I-JEPA (`block_masks.py`)."""

    targets: int = 4
    """Target blocks of an image."""
    target_scale: tuple[float, ...] = (0.15, 0.2)
    """Smallest and largest share of the image that a target block covers."""
    target_aspect: tuple[float, ...] = (0.75, 1.5)
    """Smallest and largest ratio of its height to its width."""
    contexts: int = 1
    """Context blocks of an image."""
    context_scale: tuple[float, ...] = (0.85, 1.0)
    """Smallest and largest share of the image that a context block covers, before targets are cut out."""
    min_keep: int = 10
    """A context keeps more tokens than this, or else overlaps targets."""
    official_slips: bool = False
    """Sample as the original program does, with its slips (`block_masks.py` lists them)."""

    def __post_init__(self) -> None:
        _require_at_least_one(self, "targets", "contexts")
        for name in ("target_scale", "target_aspect", "context_scale"):
            _require_range(self, name)
        if self.min_keep < 0:
            raise ValueError(f"masks.min_keep={self.min_keep} must not be negative.")


@dataclass(frozen=True, kw_only=True)
class TubeMaskConfig:
    """One kind of masks of V-JEPA 2 (`tube_masks.py`)."""

    blocks: int = 8
    """Blocks whose union is the target."""
    scale: tuple[float, ...] = (0.15, 0.15)
    """Smallest and largest share of a frame that a block covers."""
    aspect: tuple[float, ...] = (0.75, 1.5)
    """Smallest and largest ratio of its height to its width."""
    duration: tuple[float, ...] = (1.0, 1.0)
    """Smallest and largest share of the clip that a block lasts."""

    def __post_init__(self) -> None:
        _require_at_least_one(self, "blocks")
        for name in ("scale", "aspect", "duration"):
            _require_range(self, name)


@dataclass(frozen=True, kw_only=True)
class SpreadConfig:
    """Weights of losses that keep the context encoder's tokens apart, as in C-JEPA (Mo and Tong 2024, arXiv
    2410.19560); 0 as in I-JEPA and V-JEPA 2 (`losses.py`)."""

    variance: float = 0.0
    """Of the variance term of VICReg: tokens that do not vary collapse."""
    covariance: float = 0.0
    """Of its covariance term: features that vary together say the same."""

    def __post_init__(self) -> None:
        if self.variance < 0 or self.covariance < 0:
            raise ValueError(
                f"spread.variance={self.variance} and spread.covariance={self.covariance} must not be negative; 0 "
                "leaves a loss out."
            )


@dataclass(frozen=True, kw_only=True)
class AgreementConfig:
    """A loss by which two views of an image or clip, each with masks of its own, recognise each other by the mean
    tokens of their contexts (`agreement.py`): SimCLR's (Chen et al. 2020, arXiv 2002.05709), not I-JEPA's."""

    weight: float = 0.0
    """Of the loss; 0 leaves it out, as in I-JEPA and V-JEPA 2."""
    temperature: float = 0.2
    """Smaller ones weigh those that are most alike more."""
    shift: int = 0
    """A view is the image or clip moved by up to so many pixels along both axes."""
    reversed: bool = False
    """Of clips: a view must also not be taken for itself played backwards, which only motion tells apart. Clips in
    which nothing moves are their own reverse, and should be few."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf or not 0 < self.temperature < math.inf:
            raise ValueError(
                f"agreement.weight={self.weight} must be 0 or more, agreement.temperature={self.temperature} above 0, "
                "both finite; a weight of 0 leaves the loss out."
            )
        if self.shift < 0:
            raise ValueError(f"agreement.shift={self.shift} must not be negative; 0 leaves images where they are.")
        if self.reversed and not self.weight:
            raise ValueError("agreement.reversed needs the loss: set agreement.weight above 0, e.g. 1.")

    def require_within(self, size: int) -> None:
        """ValueError: the shift leaves nothing of an image of so many pixels a side."""
        if self.shift >= size:
            raise ValueError(f"agreement.shift={self.shift} must be less than encoder.size={size}.")


@dataclass(frozen=True, kw_only=True)
class IJEPAConfig:
    """I-JEPA (`ijepa.py`)."""

    family: ClassVar[str] = "ijepa"

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    predictor: PredictorConfig = field(default_factory=lambda: PredictorConfig(heads=16))
    masks: BlockMaskConfig = field(default_factory=BlockMaskConfig)
    spread: SpreadConfig = field(default_factory=SpreadConfig)
    agreement: AgreementConfig = field(default_factory=AgreementConfig)

    def __post_init__(self) -> None:
        self.agreement.require_within(self.encoder.size)
        if self.agreement.reversed:
            raise ValueError("agreement.reversed is of clips; I-JEPA takes images, leave it out.")
        if self.encoder.tubelet:
            raise ValueError(f"encoder.tubelet={self.encoder.tubelet}: I-JEPA takes images; set it to 0.")
        for name in ("encoder", "predictor"):
            if (width := getattr(self, name).width) % 4:
                raise ValueError(f"{name}.width={width} must be a multiple of 4 for two-dimensional positions.")


@dataclass(frozen=True, kw_only=True)
class VJEPA2Config:
    """V-JEPA 2 (`vjepa2.py`)."""

    family: ClassVar[str] = "vjepa2"

    encoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(size=256, tubelet=2))
    predictor: PredictorConfig = field(default_factory=lambda: PredictorConfig(mask_tokens=10))
    frames: int = 16
    """Frames of a training clip."""
    short_masks: TubeMaskConfig = field(default_factory=TubeMaskConfig)
    """Masks of many small blocks."""
    long_masks: TubeMaskConfig = field(default_factory=lambda: TubeMaskConfig(blocks=2, scale=(0.7, 0.7)))
    """Masks of few large blocks."""
    official_slips: bool = False
    """Sample masks as the original program does, with its slip (`tube_masks.py`)."""
    spread: SpreadConfig = field(default_factory=SpreadConfig)
    agreement: AgreementConfig = field(default_factory=AgreementConfig)

    def __post_init__(self) -> None:
        _require_video(self.encoder, self.predictor)
        self.agreement.require_within(self.encoder.size)
        if self.predictor.mask_tokens < 1:
            raise ValueError(f"predictor.mask_tokens={self.predictor.mask_tokens} must be at least 1.")
        if self.frames < 1 or (self.frames > 1 and self.frames % self.encoder.tubelet):
            raise ValueError(
                f"frames={self.frames} must be a multiple of encoder.tubelet={self.encoder.tubelet}, or 1."
            )


@dataclass(frozen=True, kw_only=True)
class VJEPA2ACConfig:
    """V-JEPA 2-AC (`vjepa2_ac.py`)."""

    family: ClassVar[str] = "vjepa2_ac"

    encoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(size=256, tubelet=2))
    predictor: PredictorConfig = field(
        default_factory=lambda: PredictorConfig(width=1024, depth=24, heads=16, mask_tokens=0)
    )
    action: int = POSE
    """Numbers in an action."""
    state: int = POSE
    """Numbers in the state that accompanies each frame, such as a pose; 0 for none."""
    extrinsics: int = 0
    """Numbers in a camera's extrinsics; 0 for none."""
    use_extrinsics: bool = False
    """Feed extrinsics to the predictor; the published weights have an encoder for them but do not use it."""
    state_update: str = "pose"
    """How an action changes the state in imagination: `add`, `pose` (add position and gripper, compose rotations), or
    `hold`."""
    frames: int = 8
    """Frames of a training clip."""
    rollout: int = 2
    """Frames that the rollout loss predicts, the first from a real frame, each further one from predictions."""

    def __post_init__(self) -> None:
        _require_video(self.encoder, self.predictor)
        _require_at_least_one(self, "action", "rollout")
        if self.frames < 2:
            raise ValueError(f"frames={self.frames} must be at least 2: one frame is predicted from another.")
        if self.rollout >= self.frames:
            raise ValueError(f"rollout={self.rollout} must be less than frames={self.frames}, the clip's.")
        if self.state < 0 or self.extrinsics < 0:
            raise ValueError(f"state={self.state} and extrinsics={self.extrinsics} must not be negative.")
        if self.use_extrinsics and not self.extrinsics:
            raise ValueError("use_extrinsics needs extrinsics, the number of them; the published models have 6.")
        if self.state_update not in STATE_UPDATES:
            raise ValueError(f"state_update={self.state_update!r} is not one of {', '.join(STATE_UPDATES)}.")
        if self.state and self.state_update == "add" and self.state != self.action:
            raise ValueError(
                f"state_update='add' adds the action ({self.action}) to the state ({self.state}); they must be as "
                "long as each other. Set state_update to 'hold', or advance the state yourself."
            )
        if self.state and self.state_update == "pose" and (self.state, self.action) != (POSE, POSE):
            raise ValueError(
                f"state_update='pose' needs states and actions of {POSE} numbers, got {self.state} and {self.action}; "
                "set it to 'add' or 'hold'."
            )

    @property
    def conditions(self) -> int:
        """Tokens of a frame before its patches: action, state, extrinsics."""
        return 1 + bool(self.state) + self.use_extrinsics


def _require_at_least_one(owner: object, *names: str) -> None:
    for name in names:
        if (value := getattr(owner, name)) < 1:
            raise ValueError(f"{type(owner).__name__}.{name}={value} must be at least 1.")


def _require_heads(owner: EncoderConfig | PredictorConfig, multiple: int = 1, why: str = "") -> None:
    kind = type(owner).__name__.removesuffix("Config").lower()
    if owner.width % (multiple * owner.heads):
        raise ValueError(
            f"{kind}.width={owner.width} must be a multiple of {multiple * owner.heads}, for {kind}.heads="
            f"{owner.heads}{why}."
        )


def _require_range(owner: object, name: str) -> None:
    value = getattr(owner, name)
    if len(value) != 2 or not 0 < value[0] <= value[1]:
        raise ValueError(f"{type(owner).__name__}.{name}={value} must be a smallest and a largest positive number.")
    if name != "aspect" and not name.endswith("_aspect") and value[1] > 1:
        raise ValueError(f"{type(owner).__name__}.{name}={value} are shares and must not exceed 1.")


def _require_video(encoder: EncoderConfig, predictor: PredictorConfig) -> None:
    if encoder.tubelet < 1:
        raise ValueError(f"encoder.tubelet={encoder.tubelet} must be at least 1 for video; the published value is 2.")
    for part in (encoder, predictor):
        _require_heads(part, 2, " and the pairs of features that rotary positions turn")
