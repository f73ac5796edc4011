"""`nexus train`."""

import argparse
import difflib
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import fields, replace
from pathlib import Path

import tyro

from deploy.commands.numbers import number_registry
from deploy.exit_codes import INTERRUPTED
from deploy.reports.scoreboard import solved_before
from deploy.stored.forecast import require_memory
from deploy.stored.report import inspect
from deploy.stored.sources import open_sources
from deploy.wiring.config import RunConfig, claim_logdir, rooted
from deploy.wiring.output_path import require_writable_folder
from deploy.wiring.presets import PRESETS, apply, options_for
from deploy.wiring.stores import damage
from deploy.wiring.task import require_trainable
from learner.checkpoint import Checkpoints, NoWholeCheckpointError, continuation, disk_is_full
from world_models.dreamer.config import SIZES

TRAIN = """Train DreamerV3 on TASK. The same command with the same --logdir continues the run.

Tasks: gym:CartPole-v1, gym:my_module:MyEnv-v0 (imports my_module first), dmc_walker_walk.
Presets: {presets}. Sizes: {sizes}.
Every field below can be set behind them, e.g. --learner.batch-size 8 --model.rssm.deter 1024.
"""


def _train_parser() -> argparse.ArgumentParser:
    description = TRAIN.format(presets=", ".join(PRESETS), sizes=", ".join(SIZES))
    parser = argparse.ArgumentParser(
        prog="nexus train", description=description, formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("task", metavar="TASK", nargs="?")
    parser.add_argument("--preset", default="", help="named settings; DMC tasks take dmc_proprio by themselves")
    parser.add_argument("--size", default="", help="network size")
    parser.add_argument("--replay", default="", help="short for --replay.store: memory, disk or Redis URLs")
    return parser


def parse_train(arguments: Sequence[str]) -> RunConfig:
    """The configuration that a `nexus train` command line asks for; exits with a message where it is wrong."""
    parser = _train_parser()
    if arguments and arguments[0].startswith("-") and arguments[0] not in ("-h", "--help"):
        parser.error("TASK comes first: nexus train TASK --options, e.g. nexus train gym:CartPole-v1 --logdir runs/1")
    known, rest = parser.parse_known_args(arguments)
    asks_help = any(flag in rest for flag in ("-h", "--help"))
    if known.task is None and asks_help:
        parser.print_help()
        print()
    if known.task is None and not asks_help:
        parser.error("the TASK is missing, e.g. nexus train gym:CartPole-v1")
    _require_known(rest)
    default = apply(RunConfig(task=known.task or RunConfig().task), known.preset, known.size)
    if known.replay:
        default = replace(default, replay=replace(default.replay, store=known.replay))
    config = tyro.cli(
        RunConfig, default=default, args=rest, prog=f"nexus train {known.task or 'TASK'}",
        config=(tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands), registry=number_registry(),
    )  # fmt: skip
    if not config.logdir:
        name = config.task.replace(":", "_").replace("/", "_")
        config = replace(config, logdir=str(Path("runs") / f"{name}-seed{config.seed}"))
    require_trainable(config)  # what is wrong with the task is said before anything starts
    if config.offline:
        for source in open_sources(config.offline, damaged=[]):
            source.close()
    return config


def _require_known(rest: Sequence[str]) -> None:
    """ValueError names the nearest to an option that there is not; tyro does so for dotted ones only."""
    own = ["--preset", "--size", "--replay", "--help"]
    options = [*own, *("--" + field.name.replace("_", "-") for field in fields(RunConfig))]
    for argument in rest:
        name = argument.split("=")[0].replace("_", "-")
        if name.startswith("--") and "." not in name and name not in options:
            near = difflib.get_close_matches(name, options, n=3)
            hint = f"nearest: {', '.join(near)}" if near else "nexus train --help lists them all"
            raise ValueError(f"nexus train has no option {name}; {hint}.")


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    config = parse_train(arguments)
    logdir = Path(config.logdir).absolute()
    require_writable_folder(Path(config.logdir), "--logdir")
    if config.replay.kind == "disk" and config.replay.directory:
        require_writable_folder(Path(config.replay.directory), "--replay.directory")
    require_memory(config, print)
    there = rooted(config)
    named = any(argument.split("=")[0] == "--logdir" for argument in arguments)
    again = shlex.join(["nexus", "train", *arguments, *([] if named else ["--logdir", str(logdir)])])
    try:
        if config.mode == "inline":
            from deploy.inline_run import InlineRun as Run
        else:
            from deploy.distributed.supervisor.local_run import LocalRun as Run  # type: ignore[assignment]
        if before := solved_before(config, logdir):
            claim_logdir(config, logdir).confirm()
            print(f"{logdir}: {before}. To train on, give --evaluation.stop-score a higher value, or 0.")
            outcome, lost = "solved", list[str]()
        else:
            run = Run(config, logdir)
            outcome, lost = run.run(), run.lost
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Stopped without saving. Continue from the last checkpoint, if there is one, with:\n  {again}"
        ) from None
    except NoWholeCheckpointError as error:
        raise ValueError(f"{error} {_what_is_left(config, logdir)}".rstrip()) from error
    except OSError as error:
        if not disk_is_full(error):
            raise
        raise SystemExit(
            f"The disk is full ({error.filename or logdir}), and the run has stopped. Free some space; this command "
            f"{continuation(max(Checkpoints(logdir / 'checkpoints').numbers(), default=-1))}:\n  {again}"
        ) from error
    if outcome == "interrupted":
        if damaged := damage(there):
            print(damaged)
        print(f"Stopped and saved. Continue with:\n  {again}", file=sys.stderr)
        return INTERRUPTED
    from deploy.reports.summary import summarize

    summarize(config, logdir)
    if lost:
        print(f"Parts of {config.offline} are damaged, the run has learned without them: {'; '.join(lost)}.")
    if damaged := damage(there):
        print(damaged)
    return 1 if lost else 0


def _what_is_left(config: RunConfig, logdir: Path) -> str:
    """Of a run all of whose checkpoints are damaged: how to learn from its replay, where that is whole."""
    with ExitStack() as stack:
        try:
            readers = [stack.enter_context(closing(one)) for one in open_sources(str(logdir))]
            whole = inspect(readers, verify=True, everything=False, down=[])["healthy"]
        except (ValueError, OSError, RuntimeError):
            return ""
    new = logdir.with_name(f"{logdir.name}-offline")
    again = ["nexus", "train", config.task, *options_for(config), "--offline", str(logdir), "--logdir", str(new)]
    return f"Its stored replay is whole; to learn from that: {shlex.join(again)}" if whole else ""
