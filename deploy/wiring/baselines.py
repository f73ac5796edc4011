"""Configuration of `nexus baseline`: RLlib's PPO and SAC on the tasks of Nexus."""

import os
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from actors.config import EnvironmentConfig
from deploy.wiring.config import AlertsConfig, EvaluationConfig, RunConfig
from deploy.wiring.presets import apply
from world_models.dataclass_json import require_finite

Method = Literal["ppo", "sac"]
FREE = ("logdir", "frames", "evaluation.", "alerts.", "log_every", "checkpoint_every", "keep_checkpoints", "threads")
"""Fields (or groups, ending in a dot) that may change when a run continues."""


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """What PPO and SAC share."""

    command: ClassVar[str] = "baseline"

    task: str = "gym:CartPole-v1"
    """The same as the argument TASK."""
    method: Method = "ppo"
    """The same as the argument before it."""
    logdir: str = ""
    """Directory of the run; empty for runs/METHOD-TASK-seedSEED."""
    seed: int = 0
    """Seed of the networks, of sampling and of the environments."""
    frames: int = 1_000_000
    """Length of the run in environment frames (action repeats counted)."""
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    environments: int = 1
    """Environments that are stepped together."""
    hidden: tuple[int, ...] = (256, 256)
    """Units of each hidden layer; images pass RLlib's convolutions first."""
    discount: float = 0.99
    """Factor of the reward one step later."""
    log_every: int = 1000
    """Environment steps between lines of metrics, at least."""
    checkpoint_every: int = 10_000
    """Environment steps between checkpoints; another is written at the end and on Ctrl-C."""
    keep_checkpoints: int = 2
    """Number of newest checkpoints to keep."""
    threads: int = 1
    """Threads of the networks."""

    def __post_init__(self) -> None:
        require_finite(self)
        for name in ("frames", "environments", "log_every", "checkpoint_every", "keep_checkpoints", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must not be negative.")
        if not 0 < self.discount <= 1:
            raise ValueError(f"discount={self.discount:g} must lie in (0, 1]; it is usually 0.99.")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden={self.hidden} needs one or more layers of at least one unit.")

    @property
    def update_size(self) -> int:
        """Steps in each update."""
        raise NotImplementedError

    @property
    def train_ratio(self) -> float:
        """Steps learned from for each environment step."""
        raise NotImplementedError

    @property
    def as_run(self) -> RunConfig:
        """The settings that reports and environments read, as those of a training run."""
        run = RunConfig(task=self.task, seed=self.seed, frames=self.frames, logdir=self.logdir, mode="inline")
        learner = replace(run.learner, train_ratio=self.train_ratio)
        return replace(run, environment=self.environment, evaluation=self.evaluation, learner=learner)


@dataclass(frozen=True, kw_only=True)
class PPOConfig(BaselineConfig):
    """Schulman et al. 2017, "Proximal policy optimization algorithms", with their settings for continuous control."""

    method: Method = "ppo"
    environments: int = 8
    hidden: tuple[int, ...] = (64, 64)
    batch_size: int = 2048
    """Environment steps between updates."""
    minibatch_size: int = 64
    """Steps in each update."""
    epochs: int = 10
    """Times that each step is learned from."""
    lr: float = 3e-4
    """Learning rate."""
    clip: float = 0.2
    """How far the ratio of new to old probabilities may leave 1."""
    gae: float = 0.95
    """Lambda of generalised advantage estimation."""
    entropy: float = 0.0
    """Scale of the entropy bonus."""
    value_scale: float = 0.5
    """Scale of the value's loss."""
    clip_gradient: float = 0.5
    """Largest norm of the gradient."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.minibatch_size <= self.batch_size or self.epochs < 1:
            raise ValueError(
                f"minibatch_size={self.minibatch_size} must lie in 1 to batch_size={self.batch_size}, "
                f"epochs={self.epochs} must be at least 1."
            )

    @property
    def update_size(self) -> int:
        return self.minibatch_size

    @property
    def train_ratio(self) -> float:
        return float(self.epochs)


@dataclass(frozen=True, kw_only=True)
class SACConfig(BaselineConfig):
    """Haarnoja et al. 2018, "Soft actor-critic algorithms and applications", with their settings; the critics and the
    entropy's scale learn faster than the actor."""

    method: Method = "sac"
    batch_size: int = 256
    """Steps in each update."""
    actor_lr: float = 3e-4
    """Learning rate of the policy."""
    critic_lr: float = 1e-3
    """Learning rate of both critics."""
    alpha_lr: float = 1e-3
    """Learning rate of the entropy's scale."""
    tau: float = 0.005
    """Share of the critics in each update of their targets."""
    capacity: int = 1_000_000
    """Environment steps that replay holds."""
    start: int = 1000
    """Environment steps before the first update."""
    updates_per_step: float = 1.0
    """Updates for each environment step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "capacity", "start"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.capacity < self.start:
            raise ValueError(f"capacity={self.capacity} must not be below start={self.start}; raise it.")
        if self.updates_per_step <= 0:
            raise ValueError(f"updates_per_step={self.updates_per_step:g} must be above 0.")

    @property
    def update_size(self) -> int:
        return self.batch_size

    @property
    def train_ratio(self) -> float:
        return self.updates_per_step * self.batch_size


METHODS: dict[str, type[BaselineConfig]] = {"ppo": PPOConfig, "sac": SACConfig}


def preset_for(method: str, task: str, preset: str = "") -> BaselineConfig:
    """The method on the environment that a preset of `nexus train` has. For SAC `quick` is also small
    networks and batches, and fast learning, for easy tasks on a CPU; PPO's networks are small already."""
    config = METHODS[method](task=task, environment=apply(RunConfig(task=task), preset).environment)
    if preset == "quick" and isinstance(config, SACConfig):
        return replace(config, hidden=(64, 64), batch_size=128, actor_lr=1e-3, start=500, log_every=200)
    return config


def rooted(config: BaselineConfig) -> BaselineConfig:
    """The configuration with an absolute logdir, since an environment may change the working directory."""
    return replace(config, logdir=os.path.abspath(config.logdir))
