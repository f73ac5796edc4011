"""How actors are shared out and how they write. Apart from `actor.py`, so that a torch-free supervisor can read it."""

from dataclasses import dataclass


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
