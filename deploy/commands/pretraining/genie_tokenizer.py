"""`nexus pretrain genie-tokenizer`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import FlagConversionOff, arg

from deploy.commands.pretraining.start import Start, parse_pretrain, pretrain
from deploy.wiring.pretrain_presets import SIZES, TINY
from deploy.wiring.pretraining import GenieTokenizerRun

EXAMPLE = "nexus pretrain genie-tokenizer --data generated:block_world --logdir runs/tokenizer"


@dataclass(frozen=True, kw_only=True)
class GenieTokenizerCommand(Start):
    """Train Genie's video tokenizer: frames to discrete tokens and back.

    The same command with the same --logdir continues the run.

    Every field of the configuration is an option, e.g. --training.batch-size 32.
    """

    preset: Annotated[str, arg(metavar=f"{{{','.join(SIZES['genie-tokenizer'])}}}")] = TINY
    """Named settings: `tiny`, for a CPU, `coinrun`, for one GPU, or `paper`, the published sizes."""
    config: Annotated[FlagConversionOff[GenieTokenizerRun], arg(name="")]


def run(arguments: Sequence[str], again: str = "") -> int:
    """Returns the exit code. `again`: the command that continues the run, if it is another one."""
    return pretrain(*parse_pretrain("genie-tokenizer", GenieTokenizerCommand, arguments, EXAMPLE), arguments, again)
