"""`nexus pretrain genie-dynamics`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import FlagConversionOff, arg

from deploy.commands.pretraining.start import Start, parse_pretrain, pretrain
from deploy.wiring.pretrain_presets import SIZES, TINY
from deploy.wiring.pretraining import GenieDynamicsRun

EXAMPLE = (
    "nexus pretrain genie-dynamics --data generated:block_world --tokenizer runs/tokenizer "
    "--latent-action runs/actions --logdir runs/world"
)


@dataclass(frozen=True, kw_only=True)
class GenieDynamicsCommand(Start):
    """Train Genie's dynamics: the next frame's tokens from earlier ones and an action.

    The tokenizer and the latent action model are used as they are, and become part of the checkpoint.

    The same command with the same --logdir continues the run.

    Every field of the configuration is an option, e.g. --training.batch-size 32.
    """

    preset: Annotated[str, arg(metavar=f"{{{','.join(SIZES['genie-dynamics'])}}}")] = TINY
    """Named settings: `tiny`, for a CPU, `coinrun`, for one GPU, or `paper`, the published sizes."""
    config: Annotated[FlagConversionOff[GenieDynamicsRun], arg(name="")]


def run(arguments: Sequence[str], again: str = "") -> int:
    """Returns the exit code. `again`: the command that continues the run, if it is another one."""
    return pretrain(*parse_pretrain("genie-dynamics", GenieDynamicsCommand, arguments, EXAMPLE), arguments, again)
