"""`nexus pretrain ijepa`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import FlagConversionOff, arg

from deploy.commands.pretraining.start import Start, parse_pretrain, pretrain
from deploy.wiring.pretrain_presets import SIZES, TINY
from deploy.wiring.pretraining import IJEPARun

EXAMPLE = "nexus pretrain ijepa --data generated:digits --logdir runs/digits"


@dataclass(frozen=True, kw_only=True)
class IJEPACommand(Start):
    """Pretrain I-JEPA on images.

    Clips and replays give single frames. The same command with the same --logdir continues the run.

    Every field of the configuration is an option, e.g. --training.batch-size 32.
    """

    preset: Annotated[str, arg(metavar=f"{{{','.join(SIZES['ijepa'])}}}")] = TINY
    """Named settings: `tiny`, for a CPU, or a published size with the published training."""
    config: Annotated[FlagConversionOff[IJEPARun], arg(name="")]


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return pretrain(*parse_pretrain("ijepa", IJEPACommand, arguments, EXAMPLE), arguments)
