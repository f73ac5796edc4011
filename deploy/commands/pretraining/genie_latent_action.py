"""`nexus pretrain genie-latent-action`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import FlagConversionOff, arg

from deploy.commands.pretraining.start import Start, parse_pretrain, pretrain
from deploy.wiring.pretrain_presets import SIZES, TINY
from deploy.wiring.pretraining import GenieLatentActionRun

EXAMPLE = "nexus pretrain genie-latent-action --data generated:block_world --logdir runs/actions"


@dataclass(frozen=True, kw_only=True)
class GenieLatentActionCommand(Start):
    """Train Genie's latent action model: which of a few actions leads from one frame to the next.

    Recorded actions are not used. The same command with the same --logdir continues the run.

    Every field of the configuration is an option, e.g. --training.batch-size 32.
    """

    preset: Annotated[str, arg(metavar=f"{{{','.join(SIZES['genie-latent-action'])}}}")] = TINY
    """Named settings: `tiny`, for a CPU, `coinrun`, for one GPU, or `paper`, the published sizes."""
    config: Annotated[FlagConversionOff[GenieLatentActionRun], arg(name="")]


def run(arguments: Sequence[str], again: str = "") -> int:
    """Returns the exit code. `again`: the command that continues the run, if it is another one."""
    return pretrain(
        *parse_pretrain("genie-latent-action", GenieLatentActionCommand, arguments, EXAMPLE), arguments, again
    )
