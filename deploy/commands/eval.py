"""`nexus eval`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from deploy.commands.numbers import NotNegative, Positive
from deploy.commands.parsing import OptionalPath, parse
from deploy.commands.waiting import directory_of
from deploy.wiring.config import load_config
from world_models.checkpoint_files import find_model, run_of


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Score a trained policy on fresh episodes."""

    path: Positional[Path]
    """A run directory or the name of a launched run, for its best policy; or a checkpoint directory."""
    episodes: Positive = 20
    """Number of episodes."""
    video: OptionalPath = None
    """Record the first episode to this file (.mp4 or .gif)."""
    seed: NotNegative = 1_000_000
    """Seed of the episodes."""
    deterministic: bool = False
    """Take the most likely action instead of sampling one."""
    random: bool = False
    """Also score a random policy on the same episodes (where a seed determines each)."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(
        Eval, arguments, prog="nexus eval", example="nexus eval runs/cartpole --episodes 20 --video cartpole.mp4"
    )
    path = directory_of(given.path)
    load_config(run_of(find_model(path)))  # reports what is wrong before PyTorch is loaded
    from deploy.reports.summary import score

    score(path, given.episodes, given.seed, given.deterministic, given.video, given.random)
    return 0
