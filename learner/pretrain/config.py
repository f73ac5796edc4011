"""Configuration of pretraining; `deploy/wiring/pretrain_presets.py` has the published values. Torch-free."""

from dataclasses import dataclass, field

from learner.schedules import Schedule

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Updates of a model (`pretrainer.py`)."""

    batch_size: int = 64
    """Images or clips in an update, those of all processes together."""
    updates: int = 3000
    """Length of the run."""
    lr: Schedule = field(default_factory=lambda: Schedule(kind="cosine", start=1e-4, top=1e-3, end=1e-6, warmup=200))
    """Learning rate."""
    weight_decay: Schedule = field(default_factory=lambda: Schedule(kind="constant", top=0.04))
    """Weight decay; biases and other one-dimensional parameters do not decay."""
    momentum: Schedule = field(default_factory=lambda: Schedule(kind="linear", top=0.996, end=1.0))
    """Share of the target encoder that an update keeps; the rest is the encoder's (exponential moving average)."""
    beta1: float = 0.9
    """Decay of AdamW's momentum."""
    beta2: float = 0.999
    """Decay of its second moment."""
    eps: float = 1e-8
    """Added to the square root of the second moment."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    precision: str = "auto"
    """`auto`: float32 on CPU, bfloat16 autocast on CUDA; or `float32`, `bfloat16`."""
    tf32: bool = True
    """TensorFloat-32 for float32 matrix products on CUDA."""
    compile: bool = False
    """Compile the transformer blocks: the first updates take minutes, later ones less time."""
    threads: int = 0
    """CPU threads of each process; 0 means all cores, shared among the processes."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name}={getattr(self, name)} must be at least 1.")
        if self.threads < 0:
            raise ValueError(f"training.threads={self.threads} must not be negative; 0 means all cores.")
        for name in ("lr", "weight_decay"):
            schedule = getattr(self, name)
            if min(schedule.start, schedule.top, schedule.end) < 0:
                raise ValueError(f"training.{name}={schedule} must not be negative anywhere.")
        momentum = self.momentum
        if not all(0 <= value <= 1 for value in (momentum.start, momentum.top, momentum.end)):
            raise ValueError(f"training.momentum={momentum} must lie in 0 to 1 everywhere.")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and self.eps > 0):
            raise ValueError(
                f"training.beta1={self.beta1} and beta2={self.beta2} must lie in 0 to 1, eps={self.eps} above 0."
            )
        if self.precision not in PRECISIONS:
            raise ValueError(f"training.precision={self.precision!r} is not one of {', '.join(PRECISIONS)}.")
        if self.device not in ("auto", "cpu", "cuda") and not self.device.startswith("cuda:"):
            raise ValueError(f"training.device={self.device!r} is not one of auto, cpu, cuda, cuda:N.")


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """What is measured of the representation during pretraining (`monitor.py`)."""

    every: int = 500
    """Updates between measurements; 0 turns them off."""
    examples: int = 512
    """Images or clips to measure on; as many others train the probe."""
    held_out: float = 0.05
    """Share of the data that is kept from training, to measure on; generated data has a test set of its own, and of a
    replay in use nothing can be kept back."""
    batch_size: int = 64
    """Images or clips to encode at once."""

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ValueError(f"probe.every={self.every} must not be negative; 0 turns measurements off.")
        for name in ("examples", "batch_size"):
            if getattr(self, name) < 2:
                raise ValueError(f"probe.{name}={getattr(self, name)} must be at least 2.")
        if not 0 <= self.held_out <= 0.5:
            raise ValueError(f"probe.held_out={self.held_out} must lie in 0 to 0.5.")
