"""How the environments of a run are set up, and how actors share them out. Torch-free."""

from dataclasses import dataclass
from typing import Literal, get_args

Observations = Literal["vectors", "pixels", "both"]


@dataclass(frozen=True, kw_only=True)
class EnvironmentConfig:
    """Options of one environment; the task's name chooses the rest.

    `time_limit` counts frames and comes on top of the environment's own; 0 leaves it at that. `observations`,
    `camera` and `fast_rendering` concern suites that draw their own images (dm_control): `camera=-1` is the task's
    usual one, `fast_rendering` drops anti-aliasing and shadows, 4-6 times faster, and the pixels differ from those of
    the published results. Images of another size are resized to `image_size`; (0, 0) keeps the environment's own.
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
    """Processes, environments and blocks of rows."""

    actors: int = 1
    """Actor processes in local mode; inline mode has one, with all environments."""
    environments: int = 16
    """Environments in all, shared out over the actors."""
    random_steps: int = 0
    """First environment steps with uniform random actions."""
    flush_steps: int = 16
    """Steps of each environment sent to replay at a time in local mode; inline mode sends every step."""
    flush_seconds: float = 0.5
    """Longest time a step waits for its block."""

    def __post_init__(self) -> None:
        for name in ("actors", "environments", "flush_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"actor.{name}={getattr(self, name)} must be at least 1.")
        if self.environments < self.actors:
            raise ValueError(
                f"actor.environments={self.environments} is below actor.actors={self.actors}; every actor needs one."
            )
        if not 0 < self.flush_seconds <= 1:
            raise ValueError(f"actor.flush_seconds={self.flush_seconds} must lie in (0, 1]: replay promises a second.")
