"""From the arguments of `nexus pretrain MODEL` to a run."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import arg

from deploy.commands.numbers import Positive
from deploy.commands.parsing import HELP, option_names, parse, parse_known
from deploy.commands.pretraining.processes import end_with_supervisor, supervise
from deploy.exit_codes import INTERRUPTED
from deploy.stored.pretraining_data import PretrainingData, first_example
from deploy.wiring.output_path import require_writable_folder
from deploy.wiring.pretrain_presets import TINY, preset
from deploy.wiring.pretraining import PretrainConfig, VJEPA2ACRun
from learner.checkpoint import Checkpoints, continuation, disk_is_full
from world_models.checkpoint_files import newest_model
from world_models.jepa.config import VJEPA2Config
from world_models.model_document import read_model_document


@dataclass(frozen=True, kw_only=True)
class Start:
    """What the defaults of the other options depend on."""

    data: Annotated[str, arg(help_behavior_hint="(required)", metavar="WHERE")] = ""
    """A folder of pictures, videos or .npz episodes, a LeRobot or Minari dataset, the logdir of a run, a disk replay,
    Redis URLs, or generated:digits, generated:motion, generated:block_world, generated:point_reach."""
    preset: str = TINY
    """Named settings."""
    processes: Positive = 1
    """Processes on this machine that share each batch, one for each GPU; torchrun starts as many as it is told to."""


def parse_pretrain(method: str, command: Any, arguments: Sequence[str], example: str) -> tuple[PretrainConfig, int]:
    """The configuration that a command line asks for, and the number of processes. ValueError: one message with what is
    wrong."""
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
    if isinstance(config, VJEPA2ACRun):
        fitted = _fitted(config, start.preset, example)
        config = parsed(fitted)
        assert isinstance(config, VJEPA2ACRun)
        _require_fit(config, fitted)
    if config.data.where != start.data:
        raise ValueError(f"{prog}: --data.where {config.data.where} differs from --data {start.data}; leave it out.")
    if not config.logdir:
        config = replace(config, logdir=str(Path("runs") / f"{method}-seed{config.seed}"))
    return config, start.processes


def _fitted(config: VJEPA2ACRun, size: str, example: str) -> VJEPA2ACRun:
    """The preset for the encoder that `config` names, and for the actions and states of its data."""
    if not config.encoder:
        raise ValueError(f"nexus pretrain vjepa2-ac needs --encoder, a run of nexus pretrain vjepa2, e.g. {example}")
    document = read_model_document(newest_model(Path(config.encoder)))
    if not isinstance(document.config, VJEPA2Config):
        raise ValueError(
            f"--encoder {config.encoder} holds a model of family {document.family.name!r}; give a run or checkpoint of "
            "vjepa2."
        )
    shown = first_example(config)
    if "actions" not in shown:
        raise ValueError(
            f"--data {config.data.where} has no actions, only {', '.join(sorted(shown))}; if they are recorded under "
            "other names than action, name them with --data.actions."
        )
    actions, states = shown["actions"][0], shown.get("states", np.zeros((1, 0, 0)))[0]
    fitted = preset("vjepa2-ac", size, actions.shape[-1], states.shape[-1])
    assert isinstance(fitted, VJEPA2ACRun)
    model = replace(fitted.model, encoder=document.config.encoder)
    if model.state_update == "add" and not np.allclose(states[:-1] + actions, states[1:], atol=1e-4):
        model = replace(model, state_update="hold")  # they are not in the same units
    return replace(fitted, model=model)


def _require_fit(config: VJEPA2ACRun, fitted: VJEPA2ACRun) -> None:
    """ValueError: options ask for another encoder than the one there is, or for other actions or states."""
    given, found = config.model, fitted.model
    for name in (field.name for field in fields(found.encoder) if field.name != "recompute"):
        own, value = getattr(found.encoder, name), getattr(given.encoder, name)
        if own != value:
            raise ValueError(
                f"--model.encoder.{name} {value}: the encoder of {config.encoder} has {own}, and is used as it is; "
                "leave it out, or pretrain another encoder."
            )
    for name in ("action", "state"):
        if getattr(given, name) not in (getattr(found, name), 0):  # 0: without states
            raise ValueError(
                f"--model.{name} {getattr(given, name)}: those of --data {config.data.where} have "
                f"{getattr(found, name)} numbers; leave it out, or name other keys with --data.{name}s."
            )


def pretrain(config: PretrainConfig, processes: int, arguments: Sequence[str]) -> int:
    """Begin or continue the run; returns the exit code."""
    command = ["nexus", *config.command.split()]
    require_writable_folder(Path(config.logdir), "--logdir")
    logdir = Path(config.logdir).absolute()
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        return supervise([*command[1:], *arguments], processes, logdir)
    end_with_supervisor()
    from deploy.pretrain_run import PretrainRun, follow
    from deploy.reports.pretraining.summary import summarize
    from learner.pretrain.processes import Processes

    named = any(argument.split("=")[0] == "--logdir" for argument in arguments)
    again = shlex.join([*command, *arguments, *([] if named else ["--logdir", str(logdir)])])
    with PretrainingData(config) as data, closing(Processes.join()) as group, _explaining(logdir, again):
        if not group.first:
            follow(config, logdir, data, group)
            return 0
        outcome = PretrainRun(config, logdir, data, group).run()
    if outcome == "interrupted":
        print(f"Stopped and saved. Continue with:\n  {again}", file=sys.stderr)
        return INTERRUPTED
    summarize(config, logdir)
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
