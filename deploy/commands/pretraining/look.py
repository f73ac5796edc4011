"""`nexus look`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from deploy.commands.numbers import NotNegative, PositiveOrNone
from deploy.commands.parsing import OptionalPath, parse

EXAMPLE = "nexus look runs/video --only pca rollout"


@dataclass(frozen=True, kw_only=True)
class Look:
    """Draw what a trained model sees, predicts and imagines."""

    path: Positional[Path]
    """A run of nexus train or nexus pretrain, a checkpoint, or a model of nexus import-weights."""
    data: Annotated[str, arg(metavar="WHERE", help_behavior_hint="(default: held out from its run)")] = ""
    """Images or clips to show, named as for nexus pretrain; of an agent, a stored replay, by default its own."""
    only: Annotated[
        tuple[Literal["pca", "heat", "neighbours", "rollout"], ...],
        arg(metavar="VIEW [...]", help_behavior_hint="(default: all that the model has)"),
    ] = ()
    """What to draw: pca, features of patches as colours; heat, where predictions fail; neighbours, what is alike by
    features and by pixels; rollout, imagined beside real trajectories."""
    count: Annotated[PositiveOrNone, arg(help_behavior_hint="(default: 8 images or 4 clips)")] = None
    """Images or clips in a picture."""
    out: Annotated[OptionalPath, arg(help_behavior_hint="(default: look in the run)")] = None
    """A new folder for the pictures and look.json."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    seed: NotNegative = 0
    """Seed of the choice of examples, of masks and of what is imagined."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(Look, arguments, prog="nexus look", example=EXAMPLE)
    from deploy.reports.look.looking import LookSettings, look

    look(given.path, LookSettings(
        data=given.data, only=given.only, count=given.count, seed=given.seed, out=given.out, device=given.device,
    ))  # fmt: skip
    return 0
