"""The arguments that `nexus replay inspect` and `nexus replay export` share: which replay to read."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from deploy.commands.parsing import several


@dataclass(frozen=True, kw_only=True)
class ReplaySource:
    """Stored replay to read."""

    sources: Annotated[Positional[tuple[str, ...]], several("SOURCE")]
    """Logdir of a run, disk replay, replay folder of a checkpoint, or Redis URLs (redis://a,rediss://b,unix:///c)."""
    prefix: Annotated[str, arg(help_behavior_hint="(optional)")] = ""
    """Key prefix of the replay, if the Redis servers hold several."""
