"""From the arguments of `nexus pretrain MODEL` to a run."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from deploy.commands.numbers import Positive
from deploy.commands.parsing import HELP, option_names, parse, parse_known
from deploy.commands.pretraining.fitting import (
    fitted_to_actions,
    fitted_to_encoder,
    fitted_to_init,
    fitted_to_parts,
    require_actions,
    require_encoder,
    require_init,
    require_parts,
)
from deploy.commands.pretraining.processes import end_with_supervisor, supervise
from deploy.exit_codes import INTERRUPTED
from deploy.stored.pretraining_data import PretrainingData
from deploy.wiring.output_path import require_writable_folder
from deploy.wiring.pretrain_presets import TINY, preset
from deploy.wiring.pretraining import GenieDynamicsRun, LatentRun, PretrainConfig, VJEPA2ACRun
from learner.checkpoint import Checkpoints, continuation, disk_is_full


@dataclass(frozen=True, kw_only=True)
class Start:
    """What the defaults of the other options depend on."""

    data: Annotated[str, arg(help_behavior_hint="(required)", metavar="WHERE")] = ""
    """A folder of pictures, videos or .npz episodes, a LeRobot or Minari dataset, the logdir of a run, a disk replay,
    Redis URLs, or generated:digits, generated:motion, generated:block_world, generated:goal_world,
    generated:point_reach, generated:two_room."""
    preset: str = TINY
    """Named settings."""
    processes: Positive = 1
    """Processes on this machine that share each batch, one for each GPU; torchrun starts as many as it is told to."""


def parse_pretrain(
    method: str, command: Any, arguments: Sequence[str], example: str, fit: bool = True
) -> tuple[PretrainConfig, int]:
    """The configuration that a command line asks for, and the number of processes. ValueError: one message with what is
    wrong. Without `fit`, models that it names are not looked at, since they are yet to be trained."""
    prog, helping = f"nexus pretrain {method}", any(flag in arguments for flag in HELP)
    words = [argument for argument in arguments if argument not in HELP]
    start, _ = parse_known(Start, words, prog=prog, example=example, others=tuple(option_names(command)))
    if not (start.data or helping):
        raise ValueError(f"{prog} needs --data WHERE, e.g. {example}")

    def parsed(default: PretrainConfig) -> PretrainConfig:
        default = replace(default, data=replace(default.data, where=start.data))
        given = command(data=start.data, preset=start.preset, processes=start.processes, config=default)
        return parse(command, arguments, prog=prog, example=example, default=given).config

    config = parsed(preset(method, start.preset))
    if not fit:
        pass
    elif isinstance(config, VJEPA2ACRun):
        config = parsed(fitted := fitted_to_encoder(config, start.preset, example))
        assert isinstance(config, VJEPA2ACRun)
        require_encoder(config, fitted)
    elif isinstance(config, GenieDynamicsRun):
        config = parsed(joined := fitted_to_parts(config, example))
        assert isinstance(config, GenieDynamicsRun)
        require_parts(config, joined)
    elif isinstance(config, LatentRun):
        config = parsed(acted := fitted_to_actions(config, start.preset))
        assert isinstance(config, LatentRun)
        require_actions(config, acted)
    else:
        config = parsed(begun := fitted_to_init(config, start.preset))
        require_init(config, begun)
    if config.data.where != start.data:
        raise ValueError(f"{prog}: --data.where {config.data.where} differs from --data {start.data}; leave it out.")
    if not config.logdir:
        config = replace(config, logdir=str(Path("runs") / f"{method}-seed{config.seed}"))
    return config, start.processes


def pretrain(config: PretrainConfig, processes: int, arguments: Sequence[str], again: str = "") -> int:
    """Begin or continue the run; returns the exit code. `again`: the command that continues it, by default this one."""
    command = ["nexus", *config.command.split()]
    require_writable_folder(Path(config.logdir), "--logdir")
    logdir = Path(config.logdir).absolute()
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        return supervise([*command[1:], *arguments], processes, logdir)
    end_with_supervisor()
    from deploy.pretrain_run import PretrainRun, follow
    from deploy.reports.pretraining.summary import summarize
    from learner.processes import Processes

    named = any(argument.split("=")[0] == "--logdir" for argument in arguments)
    again = again or shlex.join([*command, *arguments, *([] if named else ["--logdir", str(logdir)])])
    with PretrainingData(config) as data, closing(Processes.join()) as group, _explaining(logdir, again):
        if not group.first:
            follow(config, logdir, data, group)
            return 0
        outcome = PretrainRun(config, logdir, data, group).run()
    if outcome == "interrupted":
        print(f"Stopped and saved. Continue with:\n  {again}", file=sys.stderr)
        return INTERRUPTED
    summarize(config, logdir)
    if isinstance(config, GenieDynamicsRun) and config.probe.every and config.frames > 1:
        from deploy.reports.pretraining.world_evaluation import evaluate_world

        print()
        evaluate_world(logdir)
    return 0


@contextmanager
def _explaining(logdir: Path, again: str) -> Iterator[None]:
    """Errors that end a run say how it continues; `again`: the same command."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Stopped without saving. Continue from the last checkpoint, if there is one, with:\n  {again}"
        ) from None
    except OSError as error:
        if not disk_is_full(error):
            raise
        raise SystemExit(
            f"The disk is full ({error.filename or logdir}), and the run has stopped. Free some space; this command "
            f"{continuation(max(Checkpoints.of(logdir).numbers(), default=-1))}:\n  {again}"
        ) from error
