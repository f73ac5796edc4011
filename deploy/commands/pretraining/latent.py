"""`nexus pretrain latent`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import FlagConversionOff, arg

from deploy.commands.pretraining.start import Start, parse_pretrain, pretrain
from deploy.wiring.pretrain_presets import SIZES, TINY
from deploy.wiring.pretraining import LatentRun

EXAMPLE = "nexus pretrain latent --data generated:two_room --logdir runs/rooms"


@dataclass(frozen=True, kw_only=True)
class LatentCommand(Start):
    """Train a latent world model, encoder and predictor together, from pixels and actions.

    The width of actions is that of the data. The same command with the same --logdir continues the run.

    Every field of the configuration is an option, e.g. --model.rollout 4.
    """

    preset: Annotated[str, arg(metavar=f"{{{','.join(SIZES['latent'])}}}")] = TINY
    """Named settings: `tiny`, for a CPU, or `base`, about 15 million parameters."""
    config: Annotated[FlagConversionOff[LatentRun], arg(name="")]


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return pretrain(*parse_pretrain("latent", LatentCommand, arguments, EXAMPLE), arguments)
