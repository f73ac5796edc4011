"""Configuration of environments, and of the actors that share them. Torch-free."""

import json
from dataclasses import dataclass, field
from typing import Literal, get_args, get_type_hints

Observations = Literal["vectors", "pixels", "both"]
Isolation = Literal["auto", "process", "none"]
Precision = Literal["float32", "bfloat16"]
PoolUse = Literal["auto", "on", "off"]
PlannerName = Literal["random_shooting", "predictive_sampling", "cem", "icem", "mppi", "gradient"]
CONTINUOUS_PLANNERS = ("icem", "gradient")
"""Those that plan no discrete actions."""
LEVELS = 2**31 - 1
"""Levels of a Procgen game."""
LONGEST_TIMEOUT = 150.0  # seconds; a process that is silent for 180 s is taken for hung


@dataclass(frozen=True, kw_only=True)
class AtariConfig:
    """Options of `atari_` tasks; the defaults are those of Atari 100k. The action repeat of 4 and the size of images
    come from the presets `atari100k` and `atari200m`."""

    sticky: float = 0.0
    """Probability that the action of the frame before stays for a frame; 0.25 in Atari 200M."""
    noops: int = 30
    """The most no-ops, in frames, at the begin of an episode; their number is random, from 0 on."""
    actions: Literal["needed", "full"] = "needed"
    """`needed`: those that do something in the game; `full`: all 18 of the console."""
    color: Literal["rgb", "gray"] = "rgb"
    """Images of three channels or of one."""
    resize: Literal["bilinear", "area"] = "bilinear"
    """How images are made smaller: as in DreamerV3, or by area as in programs of the DQN family."""
    life_loss: Literal["none", "discount", "reset"] = "none"
    """What the loss of a life means that is not the last one. `none`: nothing; `discount`: the return ends there, but
    the episode goes on; `reset`: the episode ends, and scores are those of a life."""
    frame_limit: int = 108_000
    """Frames after which an episode is truncated: half an hour of play."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(AtariConfig).items():
            if (allowed := get_args(hint)) and getattr(self, name) not in allowed:
                raise ValueError(
                    f"environment.atari.{name}={getattr(self, name)!r} is not one of {allowed}; choose one."
                )
        if not 0 <= self.sticky < 1:
            raise ValueError(f"environment.atari.sticky={self.sticky:g} must lie in [0, 1); it is usually 0 or 0.25.")
        for name, least in (("noops", 0), ("frame_limit", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"environment.atari.{name}={getattr(self, name)} must be at least {least}; raise it.")


@dataclass(frozen=True, kw_only=True)
class ProcgenConfig:
    """Which levels of a Procgen game are played: all, or `num_levels` of them from `start_level` on. Train on some and
    test on others to see what generalises; the benchmark's own protocols train on 200 easy or 500 hard ones."""

    num_levels: int = 0
    """How many levels there are; 0: all."""
    start_level: int = 0
    """Number of the first."""

    def __post_init__(self) -> None:
        for name in ("num_levels", "start_level"):
            if getattr(self, name) < 0:
                raise ValueError(f"environment.procgen.{name}={getattr(self, name)} must not be negative.")
        if self.start_level and not self.num_levels:
            raise ValueError(
                f"environment.procgen.start_level={self.start_level} has no effect while all levels are played; set "
                "environment.procgen.num_levels too."
            )
        if self.start_level + self.num_levels > LEVELS:
            raise ValueError(
                f"environment.procgen: levels {self.start_level} to {self.start_level + self.num_levels - 1} are asked "
                f"for; they are numbered from 0 to {LEVELS - 1}."
            )


@dataclass(frozen=True, kw_only=True)
class EnvironmentConfig:
    """Options of one environment; the task name determines the rest.

    `observations` applies to dm_control, MiniGrid and envpool's MuJoCo, which have a choice, `camera` to dm_control and
    envpool's MuJoCo, `fast_rendering` to dm_control and Memory Maze.
    """

    action_repeat: int = 1
    """Frames that each action is repeated for."""
    time_limit: int = 0
    """Frames after which an episode is truncated, in addition to the environment's own limit; 0 adds none."""
    frame_stack: int = 1
    """Number of latest images stacked along the channels."""
    image_size: tuple[int, int] = (64, 64)
    """Height and width that images are resized to; 0 0 keeps the environment's own size."""
    observations: Observations = "vectors"
    """What the environment returns."""
    camera: int = -1
    """Camera of the rendered images; -1 is the task's usual one."""
    fast_rendering: bool = False
    """Render 4-6 times faster without anti-aliasing and shadows; pixels differ from those of published results."""
    env_config: str = "{}"
    """JSON object that the creator of an rllib: environment gets as its env_config, e.g. '{"size": 5}'."""
    atari: AtariConfig = field(default_factory=AtariConfig)
    procgen: ProcgenConfig = field(default_factory=ProcgenConfig)
    check_steps: bool = True
    """Check every observation and reward of the environment; turn it off only for speed."""
    pool: PoolUse = "auto"
    """Whether a back end steps all environments of an actor or an evaluation itself: `auto` if it can and they have
    no processes of their own, `on` demands it, `off` steps them one by one. It is faster, but the episodes that are
    open when an inline run stops are not continued."""
    pool_threads: int = 0
    """Threads that step them together; 0: one per core, but no more than environments, and one in each actor of local
    and cluster mode."""

    def __post_init__(self) -> None:
        for name, least in (
            ("action_repeat", 1),
            ("time_limit", 0),
            ("frame_stack", 1),
            ("camera", -1),
            ("pool_threads", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"environment.{name}={getattr(self, name)} must be at least {least}; raise it.")
        if self.observations not in get_args(Observations):
            raise ValueError(
                f"environment.observations={self.observations!r} is not one of {get_args(Observations)}; choose one."
            )
        if self.pool not in get_args(PoolUse):
            raise ValueError(f"environment.pool={self.pool!r} is not one of {get_args(PoolUse)}; choose one.")
        object.__setattr__(self, "env_config", _json_object(self.env_config))
        size = tuple(self.image_size)
        if len(size) != 2 or not (size == (0, 0) or min(size) >= 4):
            raise ValueError(
                f"environment.image_size={size} must be (height, width) of at least 4 pixels each, or (0, 0) to keep "
                "the environment's own; the usual choice is (64, 64)."
            )
        object.__setattr__(self, "image_size", size)


def _json_object(text: str) -> str:
    """The same object written in one way only, so that spaces and order make no difference."""
    try:
        values = json.loads(text, parse_constant=float)
        if isinstance(values, dict):
            return json.dumps(values, sort_keys=True, allow_nan=False)
        what = f"it is a {type(values).__name__}"
    except (ValueError, RecursionError) as error:
        what = f"it is not JSON ({error})"
    raise ValueError(f"environment.env_config={text!r} must be a JSON object, e.g. '{{\"size\": 5}}'; {what}.")


@dataclass(frozen=True, kw_only=True)
class AutoscaleConfig:
    """When a run adds and removes actors by itself, so that neither they nor the learner wait for the other."""

    on: bool = False
    """Whether it does; `nexus scale RUN --actors auto` turns it on while the run goes on, a number of actors off."""
    least: int = 1
    """Fewest actors."""
    most: int = 32
    """Most actors."""
    patience: float = 30.0
    """Seconds for which it measures who waits, before each change."""
    cooldown: float = 30.0
    """Seconds that a change has to take effect, from when the new actors act or the others have ended."""
    free_cpus: float = 0.5
    """CPUs of this machine that must be idle for another actor in local mode; 0: none. In cluster mode no actor is
    added while one waits for a place."""

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(
                f"actor.autoscale.least={self.least} must be at least 1, and at most actor.autoscale.most={self.most}."
            )
        if self.patience < 1 or self.cooldown < 0 or self.free_cpus < 0:
            raise ValueError(
                f"actor.autoscale.patience={self.patience:g} must be at least 1, cooldown={self.cooldown:g} and "
                f"free_cpus={self.free_cpus:g} not negative."
            )


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """Actor processes, their environments, and the blocks of rows they send."""

    actors: int = 1
    """Actor processes in local and cluster mode; inline mode has one, with all environments."""
    autoscale: AutoscaleConfig = field(default_factory=AutoscaleConfig)
    environments: int = 16
    """Total number of environments, divided among the actors."""
    random_steps: int = 0
    """Number of initial environment steps with uniformly random actions. The networks do not see them: their latents
    are those of an initial state until the learner refreshes them."""
    flush_steps: int = 16
    """Steps of each environment per block sent to replay; inline mode sends every step at once."""
    planner: Literal["none", PlannerName] = "none"
    """Act by planning in the newest snapshot's world model instead of with its policy, in training, its evaluations and
    the final scores. Each step costs many of the policy's, all the more without a GPU."""
    planner_horizon: int = 5
    """Steps that the planner looks ahead; the value of the last state stands for what follows."""
    planner_samples: int = 0
    """Sequences of actions that it tries at once; 0: as many as it is meant for, some hundreds."""
    max_lag: int = 0
    """Learner updates that the policy of an actor may be behind; one further behind waits for a newer snapshot (in
    local and cluster mode). 0: any number."""
    flush_seconds: float = 0.5
    """Longest time that a step waits for its block to fill, in seconds."""
    precision: Precision = "float32"
    """Numbers in which actors on a CPU convolve images: `bfloat16` takes a third of the time on a CPU that computes in
    it (AVX512-BF16, AMX), longer on others, and is coarser. Evaluations use float32."""
    isolation: Isolation = "auto"
    """`process`: each environment in its own process, which may hang, leak memory or crash; `none`: in the actor's,
    where an exception or NaN costs one environment and anything else the actor. `auto`: `process` for tasks with
    a module of their own (gym:module:ID, rllib:module:NAME), else and in inline mode `none`."""
    step_timeout: float = 60.0
    """Longest time of one environment step, in seconds; then its process is killed and the environment made again.
    Without isolation the actor is killed, some time later."""
    reset_timeout: float = 120.0
    """The same for a reset, and for making an environment."""
    environment_gb: float = 0.0
    """Memory in GB beyond which the process of an isolated environment is killed; 0 sets no limit. Programs that it
    starts are not counted."""
    quarantine_after: int = 5
    """Failures of one environment in a row, without a finished episode or 1,000 steps between them, after which the run
    goes on without it."""

    @property
    def plans(self) -> bool:
        """Whether actors plan."""
        return self.planner != "none"

    @property
    def actions(self) -> Literal["planned", "sampled"]:
        """How the actions of training and its evaluations are chosen, as their protocol says."""
        return "planned" if self.plans else "sampled"

    def __post_init__(self) -> None:
        for name in ("actors", "environments", "flush_steps", "quarantine_after"):
            if getattr(self, name) < 1:
                raise ValueError(f"actor.{name}={getattr(self, name)} must be at least 1.")
        if self.planner not in (allowed := ("none", *get_args(PlannerName))):
            raise ValueError(f"actor.planner={self.planner!r} is not one of {allowed}; choose one.")
        if self.planner_horizon < 1 or self.planner_samples < 0:
            raise ValueError(
                f"actor.planner_horizon={self.planner_horizon} must be at least 1, and actor.planner_samples="
                f"{self.planner_samples} not negative."
            )
        if self.max_lag < 0:
            raise ValueError(f"actor.max_lag={self.max_lag} must not be negative; 0 sets no bound.")
        if self.environments < self.actors:
            raise ValueError(
                f"actor.environments={self.environments} is below actor.actors={self.actors}; "
                "every actor needs at least one."
            )
        if not 0 < self.flush_seconds <= 1:
            raise ValueError(
                f"actor.flush_seconds={self.flush_seconds} must lie in (0, 1]: steps must reach replay within a second."
            )
        if self.isolation not in get_args(Isolation):
            raise ValueError(f"actor.isolation={self.isolation!r} is not one of {get_args(Isolation)}; choose one.")
        if self.precision not in get_args(Precision):
            raise ValueError(f"actor.precision={self.precision!r} is not one of {get_args(Precision)}; choose one.")
        for name in ("step_timeout", "reset_timeout"):
            if not 0 < getattr(self, name) <= LONGEST_TIMEOUT:
                raise ValueError(f"actor.{name}={getattr(self, name):g} must lie in (0, {LONGEST_TIMEOUT:g}] seconds.")
        if self.environment_gb < 0:
            raise ValueError(f"actor.environment_gb={self.environment_gb:g} must not be negative; 0 sets no limit.")
