"""Configuration of the learner. Torch-free, so that the supervisor can read it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """LaProp with AGC (`optimizer.py`)."""

    lr: float = 4e-5
    """Learning rate."""
    agc: float = 0.3
    """Largest gradient norm relative to the parameter norm; 0 turns clipping off."""
    pmin: float = 1e-3
    """Smallest parameter norm assumed by AGC."""
    beta1: float = 0.9
    """Decay of the momentum."""
    beta2: float = 0.999
    """Decay of the second moment."""
    eps: float = 1e-20
    """Added to the square root of the second moment."""
    weight_decay: float = 0.0
    """Weight decay, relative to the learning rate; matrices and kernels only."""
    schedule: str = "const"
    """`const`, `linear` (to a tenth) or `cosine`, over `anneal - warmup` updates after the warm-up."""
    warmup: int = 1000
    """Updates over which the rate rises linearly from exactly 0."""
    anneal: int = 0
    """Update at which `linear` and `cosine` end."""

    def __post_init__(self) -> None:
        allowed = ("const", "linear", "cosine")
        if self.schedule not in allowed:
            raise ValueError(f"optimizer.schedule={self.schedule!r} is not one of {allowed}.")
        if self.lr < 0 or self.warmup < 0:
            raise ValueError(f"optimizer.lr={self.lr} and optimizer.warmup={self.warmup} must not be negative.")
        if self.schedule != "const" and self.anneal <= self.warmup:
            raise ValueError(
                f"optimizer.anneal={self.anneal} must exceed optimizer.warmup={self.warmup} for schedule "
                f"{self.schedule!r}; set it to the planned number of updates."
            )


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """Batches, train ratio, optimiser and device."""

    batch_size: int = 16
    """Sequences per batch."""
    batch_length: int = 64
    """Training steps per sequence; replay adds one context step before them."""
    consecutive: int = 1
    """Cut each replayed sequence into this many batches, carrying the state from one to the next."""
    train_ratio: float = 32.0
    """Replayed training steps per environment step."""
    start_items: int = 0
    """Replayed sequences needed before the first update; 0 means batch_size * batch_length, the official value."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    precision: str = "auto"
    """`auto`: float32 on CPU, bfloat16 autocast on CUDA; or `float32`, `bfloat16`."""
    tf32: bool = True
    """TensorFloat-32 for float32 matrix products and convolutions on CUDA."""
    cuda_graph: bool = False
    """On CUDA, in one process, record the update as a CUDA graph and replay it, which spares the host thousands of
    launches. Off until it has been tried on a GPU."""
    compile: bool = False
    """On a CPU take imagined steps in C++ that is compiled at the start: about 20 seconds, or 3 if it is in the user's
    cache already. Numbers differ by rounding."""
    fused_scan: bool = False
    """On CUDA, filter a sequence with one Triton kernel forward and one backward instead of operator by operator. Off
    until it has been tried on a GPU."""
    threads: int = 0
    """CPU threads of the learner; 0 means all cores but one."""
    publish_every: int = 10
    """Updates between policy snapshots."""
    publish_seconds: float = 0.0
    """Seconds after which a snapshot is published even if fewer updates have passed, in local and cluster mode; 0
    counts only updates."""
    prefetch: int = 2
    """Batches sampled ahead in local and cluster mode; inline mode samples none ahead, to stay repeatable."""
    processes: int = 1
    """Processes that share every batch, on one machine with a GPU each, in local and cluster mode. Parameters are those
    of one process but for rounding."""
    accumulate: int = 1
    """Parts of each batch, or of a process's share of it, that pass through the model one after another, so that a
    large batch fits a small device. Parameters are those of one pass but for rounding."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "batch_length", "consecutive", "publish_every", "processes", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"learner.{name}={getattr(self, name)} must be at least 1.")
        if self.batch_size % (parts := self.processes * self.accumulate):
            raise ValueError(
                f"learner.batch_size={self.batch_size} cannot be divided into learner.processes={self.processes} times "
                f"learner.accumulate={self.accumulate} equal parts; make it a multiple of {parts}."
            )
        if self.processes > 1 and self.device.startswith("cuda:"):
            raise ValueError(
                f"learner.device={self.device!r} is one GPU, but each of learner.processes={self.processes} needs one "
                "of its own; set learner.device to cuda, which numbers them, and choose GPUs by CUDA_VISIBLE_DEVICES."
            )
        if self.batch_length < 2:
            raise ValueError(
                f"learner.batch_length={self.batch_length} must be at least 2: returns look one step ahead."
            )
        if self.publish_seconds < 0:
            raise ValueError(
                f"learner.publish_seconds={self.publish_seconds:g} must not be negative; 0 counts only updates."
            )
        if self.train_ratio < 0:
            raise ValueError(f"learner.train_ratio={self.train_ratio} must not be negative; 0 turns training off.")
        for name, allowed in (("device", ("auto", "cpu", "cuda")), ("precision", ("auto", "float32", "bfloat16"))):
            value = getattr(self, name)
            if value not in allowed and not (name == "device" and value.startswith("cuda:")):
                more = ", cuda:N" if name == "device" else ""
                raise ValueError(f"learner.{name}={value!r} is not one of {', '.join(allowed)}{more}.")
