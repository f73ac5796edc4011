"""Configuration of a pretraining run: one tree for each family of models."""

import os
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

from deploy.wiring.config import AlertsConfig
from learner.pretrain.config import ProbeConfig, TrainingConfig
from replay.redis_url import URLS
from world_models.dataclass_json import require_finite
from world_models.genie.config import GenieConfig, LatentActionConfig, TokenizerConfig
from world_models.jepa.config import IJEPAConfig, VJEPA2ACConfig, VJEPA2Config
from world_models.latent.config import LatentWorldConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where images or clips come from, and what the model sees of them."""

    where: str = ""
    """The same as --data."""
    held_out: str = ""
    """Other data of the same kind to measure on, such as a recording of other levels. Empty: a share of the data
    (probe.held_out), or the test split of generated data."""
    stride: int = 1
    """Steps from one frame of a clip to the next."""
    fps: float = 0.0
    """If positive, videos and robot recordings have the stride that shows this many frames a second."""
    scale: tuple[float, float] = (0.3, 1.0)
    """Smallest and largest share of a frame's area that a random crop keeps; 1 1 crops nothing."""
    aspect: tuple[float, float] = (0.75, 1.35)
    """Smallest and largest ratio of a crop's width to its height."""
    flip: bool = False
    """Mirror half of the images or clips."""
    frames: str = ""
    """Recorded key with the images; empty for the only one."""
    actions: tuple[str, ...] = ()
    """Recorded keys that are actions; none for `action` and `action/...`."""
    states: tuple[str, ...] = ()
    """Recorded keys that are states; none for all vectors of floats."""
    task: str = ""
    """The task that says how many classes discrete actions have, if the source does not."""
    threads: int = 2
    """Threads that read ahead; 0 reads when the model waits."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ValueError(f"data.threads={self.threads} must not be negative.")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """All options of `nexus pretrain`, but for the model's."""

    command: ClassVar[str]
    """The command that a run's directory belongs to."""

    logdir: str = ""
    """Directory of the run; empty for runs/MODEL-seedSEED."""
    seed: int = 0
    """Seed of the networks, of batches, crops and masks."""
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    log_every: int = 50
    """Updates between lines of metrics."""
    checkpoint_every: int = 1000
    """Updates between checkpoints; another is written at the end and on Ctrl-C."""
    checkpoint_seconds: float = 900.0
    """Seconds after which a checkpoint is written even if fewer updates have passed; 0 counts only updates."""
    keep_checkpoints: int = 2
    """Number of newest checkpoints to keep."""

    def __post_init__(self) -> None:
        require_finite(self)
        for name in ("log_every", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.checkpoint_seconds < 0:
            raise ValueError(
                f"checkpoint_seconds={self.checkpoint_seconds:g} must not be negative; 0 counts only updates."
            )
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must not be negative.")

    @property
    def model_config(self) -> Any:
        """The configuration of the model, whatever its family."""
        return self.model  # type: ignore[attr-defined]

    @property
    def frames(self) -> int:
        """Frames of one example."""
        return int(getattr(self.model_config, "frames", 1))

    @property
    def size(self) -> int:
        """Height and width of the frames, in pixels."""
        return int(self.model_config.encoder.size)

    @property
    def conditions(self) -> bool:
        """Whether recorded actions and states are used."""
        return False

    @property
    def compares_actions(self) -> bool:
        """Whether those of held-out examples, if they are known, are compared with what the model infers."""
        return False


@dataclass(frozen=True, kw_only=True)
class IJEPARun(PretrainConfig):
    """I-JEPA."""

    command: ClassVar[str] = "pretrain ijepa"

    init: str = ""
    """A run, a checkpoint or an imported model of I-JEPA to begin with; empty for fresh weights. Its sizes are then the
    defaults, and the optimiser goes on with its moments, if it has any."""
    model: IJEPAConfig = field(default_factory=IJEPAConfig)


@dataclass(frozen=True, kw_only=True)
class VJEPA2Run(PretrainConfig):
    """V-JEPA 2."""

    command: ClassVar[str] = "pretrain vjepa2"

    init: str = ""
    """A run, a checkpoint or an imported model of V-JEPA 2 to begin with; empty for fresh weights. Its sizes are then
    the defaults, and the optimiser goes on with its moments, if it has any."""
    model: VJEPA2Config = field(default_factory=VJEPA2Config)


@dataclass(frozen=True, kw_only=True)
class VJEPA2ACRun(PretrainConfig):
    """V-JEPA 2-AC."""

    command: ClassVar[str] = "pretrain vjepa2-ac"

    encoder: str = ""
    """A run or checkpoint of `nexus pretrain vjepa2`, whose encoder is used as it is."""
    model: VJEPA2ACConfig = field(default_factory=VJEPA2ACConfig)

    @property
    def conditions(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class _GenieRun(PretrainConfig):
    """One of Genie's models."""

    @property
    def size(self) -> int:
        return int(self.model_config.size)


@dataclass(frozen=True, kw_only=True)
class GenieTokenizerRun(_GenieRun):
    """Genie's video tokenizer."""

    command: ClassVar[str] = "pretrain genie-tokenizer"

    model: TokenizerConfig = field(default_factory=TokenizerConfig)


@dataclass(frozen=True, kw_only=True)
class GenieLatentActionRun(_GenieRun):
    """Genie's latent action model."""

    command: ClassVar[str] = "pretrain genie-latent-action"

    model: LatentActionConfig = field(default_factory=LatentActionConfig)

    @property
    def compares_actions(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class GenieDynamicsRun(_GenieRun):
    """Genie's dynamics."""

    command: ClassVar[str] = "pretrain genie-dynamics"

    tokenizer: str = ""
    """A run or checkpoint of `nexus pretrain genie-tokenizer`, which is used as it is."""
    latent_action: str = ""
    """A run or checkpoint of `nexus pretrain genie-latent-action`, which is used as it is; none with real actions."""
    real_actions: bool = False
    """Condition on the recorded actions instead of latent ones."""
    model: GenieConfig = field(default_factory=GenieConfig)

    @property
    def compares_actions(self) -> bool:
        return True

    @property
    def conditions(self) -> bool:
        return self.real_actions


@dataclass(frozen=True, kw_only=True)
class LatentRun(PretrainConfig):
    """A latent world model."""

    command: ClassVar[str] = "pretrain latent"

    encoder: str = ""
    """A run or checkpoint of `nexus pretrain latent`, whose encoder is used as it is: the predictor alone learns, from
    many more frames in the same time. Empty: both learn."""
    encoded_clips: int = 0
    """With an encoder: so many clips are encoded once, and the predictor learns from their latents, in a small part of
    the time. 0: every batch is read and encoded anew."""
    model: LatentWorldConfig = field(default_factory=LatentWorldConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoded_clips < 0:
            raise ValueError(f"encoded_clips={self.encoded_clips} must not be negative; 0 encodes every batch anew.")

    @property
    def conditions(self) -> bool:
        return True


RUNS: dict[str, type[PretrainConfig]] = {
    kind.command.removeprefix("pretrain "): kind
    for kind in (
        IJEPARun,
        VJEPA2Run,
        VJEPA2ACRun,
        GenieTokenizerRun,
        GenieLatentActionRun,
        GenieDynamicsRun,
        LatentRun,
    )  # fmt: skip
}
"""By the name that `nexus pretrain` takes."""

FREE = (
    "logdir", "alerts.", "log_every", "checkpoint_every", "checkpoint_seconds", "keep_checkpoints", "data.threads",
    "training.device", "training.threads", "training.compile", "training.tf32",
)  # fmt: skip
"""Fields that may change when a run continues: they change speed and reports, not results."""

T = TypeVar("T", bound=PretrainConfig)


def rooted(config: T) -> T:
    """The configuration with absolute paths."""
    data = config.data
    changes: dict[str, Any] = {"logdir": os.path.abspath(config.logdir)}
    for name in ("where", "held_out"):
        if (there := getattr(data, name)) and ":" not in there.split("/")[0] and not there.startswith(URLS):
            data = replace(data, **{name: os.path.abspath(there)})
    for name in ("encoder", "init", "tokenizer", "latent_action"):
        if path := getattr(config, name, ""):
            changes[name] = os.path.abspath(path)
    return replace(config, data=data, **changes)
