"""`nexus pretrain vjepa2-ac`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import FlagConversionOff, arg

from deploy.commands.pretraining.start import Start, parse_pretrain, pretrain
from deploy.wiring.pretrain_presets import SIZES, TINY
from deploy.wiring.pretraining import VJEPA2ACRun

EXAMPLE = "nexus pretrain vjepa2-ac --data generated:point_reach --encoder runs/vjepa2 --logdir runs/ac"


@dataclass(frozen=True, kw_only=True)
class VJEPA2ACCommand(Start):
    """Train V-JEPA 2-AC's predictor of the next frame, given actions, on a frozen V-JEPA 2 encoder.

    Its frames have the encoder's size; the widths of actions and states are those of the data. The same command with
    the same --logdir continues the run.

    Every field of the configuration is an option, e.g. --model.frames 4.
    """

    preset: Annotated[str, arg(metavar=f"{{{','.join(SIZES['vjepa2-ac'])}}}")] = TINY
    """Named settings: `tiny`, for a CPU, or a published size with the published training."""
    config: Annotated[FlagConversionOff[VJEPA2ACRun], arg(name="")]


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return pretrain(*parse_pretrain("vjepa2-ac", VJEPA2ACCommand, arguments, EXAMPLE), arguments)
