"""Configuration of environments, and of the actors that share them. Torch-free."""

from dataclasses import dataclass
from typing import Literal, get_args

Observations = Literal["vectors", "pixels", "both"]


@dataclass(frozen=True, kw_only=True)
class EnvironmentConfig:
    """Options of one environment; the task name determines the rest.

    `time_limit` counts frames and applies in addition to the environment's own; 0 adds none. `observations`, `camera`
    and `fast_rendering` apply to suites that render their own images (dm_control): `camera=-1` is the task's usual
    camera; `fast_rendering` turns off anti-aliasing and shadows, which is 4-6 times faster, but pixels differ from
    those of the published results. Images are resized to `image_size`; (0, 0) keeps the environment's own size.
    """

    action_repeat: int = 1
    time_limit: int = 0
    frame_stack: int = 1
    image_size: tuple[int, int] = (64, 64)
    observations: Observations = "vectors"
    camera: int = -1
    fast_rendering: bool = False
    check_steps: bool = True

    def __post_init__(self) -> None:
        for name, least in (("action_repeat", 1), ("time_limit", 0), ("frame_stack", 1), ("camera", -1)):
            if getattr(self, name) < least:
                raise ValueError(f"environment.{name}={getattr(self, name)} must be at least {least}; raise it.")
        if self.observations not in get_args(Observations):
            raise ValueError(
                f"environment.observations={self.observations!r} is not one of {get_args(Observations)}; choose one."
            )
        size = tuple(self.image_size)
        if len(size) != 2 or not (size == (0, 0) or min(size) >= 4):
            raise ValueError(
                f"environment.image_size={size} must be (height, width) of at least 4 pixels each, or (0, 0) to keep "
                "the environment's own; the usual choice is (64, 64)."
            )
        object.__setattr__(self, "image_size", size)


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """Actor processes, their environments, and the blocks of rows they send."""

    actors: int = 1
    """Actor processes in local mode; inline mode has one, with all environments."""
    environments: int = 16
    """Total number of environments, divided among the actors."""
    random_steps: int = 0
    """Number of initial environment steps with uniformly random actions."""
    flush_steps: int = 16
    """Steps of each environment per block sent to replay in local mode; inline mode sends every step at once."""
    flush_seconds: float = 0.5
    """Longest time that a step waits for its block to fill, in seconds."""

    def __post_init__(self) -> None:
        for name in ("actors", "environments", "flush_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"actor.{name}={getattr(self, name)} must be at least 1.")
        if self.environments < self.actors:
            raise ValueError(
                f"actor.environments={self.environments} is below actor.actors={self.actors}; "
                "every actor needs at least one."
            )
        if not 0 < self.flush_seconds <= 1:
            raise ValueError(
                f"actor.flush_seconds={self.flush_seconds} must lie in (0, 1]: steps must reach replay within a second."
            )
