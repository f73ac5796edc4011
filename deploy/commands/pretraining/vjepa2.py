"""`nexus pretrain vjepa2`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import FlagConversionOff, arg

from deploy.commands.pretraining.start import Start, parse_pretrain, pretrain
from deploy.wiring.pretrain_presets import SIZES, TINY
from deploy.wiring.pretraining import VJEPA2Run

EXAMPLE = "nexus pretrain vjepa2 --data generated:motion --logdir runs/motion"


@dataclass(frozen=True, kw_only=True)
class VJEPA2Command(Start):
    """Pretrain V-JEPA 2 on clips.

    The same command with the same --logdir continues the run.

    Every field of the configuration is an option, e.g. --model.frames 16.
    """

    preset: Annotated[str, arg(metavar=f"{{{','.join(SIZES['vjepa2'])}}}")] = TINY
    """Named settings: `tiny`, for a CPU, a published size with the published training, or its `cooldown`, in which the
    learning rate falls on longer clips: it goes on from --init, the model of the phase before."""
    config: Annotated[FlagConversionOff[VJEPA2Run], arg(name="")]


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return pretrain(*parse_pretrain("vjepa2", VJEPA2Command, arguments, EXAMPLE), arguments)
