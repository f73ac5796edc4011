"""The command `nexus`."""

import argparse
import difflib
import errno
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from deploy.import_path import own_folder_last
from deploy.interrupt import ENDED, ending_on_signals
from deploy.output import hanging_up
from deploy.output_path import require_writable_folder

if TYPE_CHECKING:
    from deploy.config import RunConfig

DESCRIPTION = """Train agents inside learned world models, on this machine or a cluster.

  nexus train gym:CartPole-v1 --preset quick           learn CartPole in minutes on a CPU
  nexus train dmc_walker_walk --environment.action-repeat 2 --learner.train-ratio 512
  nexus train gym:CartPole-v1 --preset quick --replay disk     replay larger than memory, kept through crashes
  nexus train gym:CartPole-v1 --preset quick --offline runs/cartpole   learn from stored replay alone
  nexus replay inspect runs/cartpole                   what a run has stored, and whether it is whole
  nexus eval runs/cartpole --episodes 20 --video cartpole.mp4
  nexus plot runs/* --baselines dmc_proprio-dreamerv3.json.gz --out curves.png
  nexus check-env gym:my_module:MyEnv-v0               what is wrong with an environment, and where
  nexus doctor                                         what works on this machine, and what to do about the rest
"""

TRAIN = """Train DreamerV3 on TASK. The same command with the same --logdir continues the run.

Tasks: gym:CartPole-v1, gym:my_module:MyEnv-v0 (imports my_module first), dmc_walker_walk.
Presets: {presets}. Sizes: {sizes}.
Every field below can be set behind them, e.g. --learner.batch-size 8 --model.rssm.deter 1024.
"""


def _train_parser() -> argparse.ArgumentParser:
    from deploy.presets import PRESETS
    from world_models.dreamer.config import SIZES

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


def parse_train(arguments: Sequence[str]) -> "RunConfig":
    """The configuration that a `nexus train` command line asks for; exits with a message where it is wrong."""
    import tyro

    from deploy.command_numbers import number_registry
    from deploy.config import RunConfig
    from deploy.presets import apply
    from deploy.task import require_trainable

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
        from deploy.replay_sources import open_sources

        for source in open_sources(config.offline, damaged=[]):
            source.close()
    return config


def _require_known(rest: Sequence[str]) -> None:
    """ValueError names the nearest to an option that there is not; tyro does so for dotted ones only."""
    from deploy.config import RunConfig

    own = ["--preset", "--size", "--replay", "--help"]
    options = [*own, *("--" + field.name.replace("_", "-") for field in fields(RunConfig))]
    for argument in rest:
        name = argument.split("=")[0].replace("_", "-")
        if name.startswith("--") and "." not in name and name not in options:
            near = difflib.get_close_matches(name, options, n=3)
            hint = f"nearest: {', '.join(near)}" if near else "nexus train --help lists them all"
            raise ValueError(f"nexus train has no option {name}; {hint}.")


def train(arguments: Sequence[str]) -> int:
    """`nexus train`."""
    config = parse_train(arguments)
    logdir = Path(config.logdir).absolute()
    from deploy.config import claim_logdir, rooted
    from deploy.report_memory import require_memory
    from deploy.scoreboard import solved_before
    from deploy.stores import damage
    from learner.checkpoint import Checkpoints, NoWholeCheckpointError, continuation, disk_is_full

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
            from deploy.supervisor import LocalRun as Run  # type: ignore[assignment]
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
        return _complain(f"Stopped and saved. Continue with:\n  {again}", ENDED)
    from deploy.summary import summarize

    summarize(config, logdir)
    if lost:
        print(f"Parts of {config.offline} are damaged, the run has learned without them: {'; '.join(lost)}.")
    if damaged := damage(there):
        print(damaged)
    return 1 if lost else 0


def _what_is_left(config: "RunConfig", logdir: Path) -> str:
    """Of a run all of whose checkpoints are damaged: how to learn from its replay, where that is whole."""
    from deploy.presets import options_for
    from deploy.replay_report import inspect
    from deploy.replay_sources import open_sources

    with ExitStack() as stack:
        try:
            readers = [stack.enter_context(closing(one)) for one in open_sources(str(logdir))]
            whole = inspect(readers, verify=True, everything=False, down=[])["healthy"]
        except (ValueError, OSError, RuntimeError):
            return ""
    new = logdir.with_name(f"{logdir.name}-offline")
    again = ["nexus", "train", config.task, *options_for(config), "--offline", str(logdir), "--logdir", str(new)]
    return f"Its stored replay is whole; to learn from that: {shlex.join(again)}" if whole else ""


def evaluate(arguments: Sequence[str]) -> int:
    """`nexus eval`."""
    from deploy.command_numbers import positive, whole

    parser = argparse.ArgumentParser(
        prog="nexus eval", description="Score a trained policy on fresh episodes.",
        epilog="example: nexus eval runs/cartpole --episodes 20 --video cartpole.mp4",
    )  # fmt: skip
    parser.add_argument("path", type=Path, help="a run directory (its best policy) or one checkpoint directory")
    parser.add_argument("--episodes", type=positive, default=20)
    parser.add_argument("--video", type=Path, help="write the first episode as .mp4 or .gif")
    parser.add_argument("--seed", type=whole, default=1_000_000, help="seed of the episodes")
    parser.add_argument("--deterministic", action="store_true", help="take the most likely action in place of a sample")
    parser.add_argument("--random", action="store_true", help="score the random policy on the same episodes too")
    known = parser.parse_args(arguments)
    if known.seed < 0:
        raise ValueError(f"--seed is {known.seed}, allowed 0 or more.")
    from deploy.config import load_config
    from world_models.checkpoint_files import find_model, run_of

    load_config(run_of(find_model(known.path)))  # what is wrong is said before PyTorch is loaded
    from deploy.summary import score

    score(known.path, known.episodes, known.seed, known.deterministic, known.video, known.random)
    return 0


def plot(arguments: Sequence[str]) -> int:
    """`nexus plot`."""
    parser = argparse.ArgumentParser(
        prog="nexus plot", description="Draw score curves: frames against score, seeds aggregated.",
        epilog="example: nexus plot runs/* --baselines dmc_proprio-dreamerv3.json.gz --out curves.png",
    )  # fmt: skip
    parser.add_argument("logdirs", nargs="+", type=Path)
    parser.add_argument("--baselines", nargs="*", default=[], type=Path, help="JSON(.gz) lists of published curves")
    parser.add_argument("--out", type=Path, default=Path("curves.png"), help=".png, .svg or .pdf")
    parser.add_argument("--export", type=Path, help="write the runs' points in the baselines' format")
    parser.add_argument("--band", choices=("ci95", "minmax", "none"), default="ci95")
    parser.add_argument("--frames", type=float, help="where the x-axis ends")
    parser.add_argument("--tasks", nargs="*", default=[], help="only these tasks")
    known = parser.parse_args(arguments)
    from deploy.plot import plot as draw

    damaged = draw(
        known.logdirs, out=known.out, baselines=known.baselines, export_to=known.export, band=known.band,
        frames=known.frames, tasks=known.tasks, note=partial(print, file=sys.stderr),
    )  # fmt: skip
    print(known.out)
    return 1 if damaged else 0


def check_env(arguments: Sequence[str]) -> int:
    """`nexus check-env`."""
    from deploy.command_numbers import positive

    parser = argparse.ArgumentParser(
        prog="nexus check-env", description="Play an environment and report what is wrong with it, and where.",
        epilog="example: nexus check-env gym:my_module:MyEnv-v0",
    )  # fmt: skip
    parser.add_argument("task", metavar="TASK")
    parser.add_argument("--steps", type=positive, default=1000)
    parser.add_argument("--observations", choices=("vectors", "pixels", "both"), default="vectors")
    known = parser.parse_args(arguments)
    from actors.closing import warned
    from actors.config import EnvironmentConfig
    from actors.conformance import check_environment
    from actors.envs import make
    from replay.counted import counted

    environment = make(known.task, EnvironmentConfig(observations=known.observations))
    try:
        for name, spaces in (("observation", environment.observation_space), ("action", environment.action_space)):
            for key, space in spaces.items():
                kind = counted(space.classes, "class", "classes") if space.discrete else f"{space.dtype}"
                print(f"{name} {key}: {kind}, shape {list(space.shape)}")
        findings = check_environment(environment, known.steps)
    finally:
        environment.close()
    for finding in findings:
        print(finding)
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors + warned()
    extent = "the check ended there" if errors else f"in {counted(known.steps, 'step')}"
    print(f"{known.task}: {counted(errors, 'error')}, {counted(warnings, 'warning')}{';' * bool(errors)} {extent}")
    return 1 if errors else 0


def doctor(arguments: Sequence[str]) -> int:
    """`nexus doctor`."""
    parser = argparse.ArgumentParser(prog="nexus doctor", description="What works on this machine, and what to do.")
    parser.add_argument("directory", nargs="?", default=".", help="where runs will be written")
    known = parser.parse_args(arguments)
    from deploy.doctor import doctor as diagnose

    return diagnose(known.directory)


def replay(arguments: Sequence[str]) -> int:
    """`nexus replay`."""
    from deploy.replay_command import replay as run

    return run(arguments)


UNWRITABLE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space, or write to another place."),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Give this user the rights to it, or use another."),
    errno.EIO: "The device has an error; write to another one.",
}
"""What a file system refuses in the middle of the work, and what to do."""

COMMANDS = {
    "train": train, "eval": evaluate, "plot": plot, "replay": replay, "check-env": check_env, "doctor": doctor,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command. Errors a user can cause are one message, without a traceback, and exit code 2."""
    if arguments is None:  # to the very end of this process, which is ours
        sys.unraisablehook = _say_unraisable
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    own_folder_last(os.getcwd())  # environments of one's own lie where the command is given
    from deploy.redis_password import hide_passwords  # not before: a replay.py there is none of ours

    try:
        arguments = hide_passwords(arguments)
    except ValueError as error:
        sys.exit(_complain(str(error)))
    with ending_on_signals() as signals, hanging_up():
        code = _run(arguments, signals)
        if code == ENDED and not signals:  # the command itself has taken the signal
            signals.append(signal.SIGINT)  # another one, while the program exits, must not break that off
    sys.exit(code)


def _run(arguments: Sequence[str], signals: Sequence[int]) -> int:
    """The exit code of one command; its errors are said. `signals`: those received."""
    name = " ".join(["nexus", *arguments[:1]])
    try:
        try:
            code = _dispatch(arguments)
        except SystemExit as left:
            code = _complain(left.code, 1) if isinstance(left.code, str) else left.code or 0
        if sys.stdout:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt as stopped:
        if not stopped.args and signals[:1] == [signal.SIGHUP]:
            return ENDED  # `nexus ... | head` wants no more lines
        return _complain(str(stopped) or f"{name} was stopped.", ENDED)
    except Exception as error:
        if signals:  # an import or a library that a signal has broken off
            return _complain(f"{name} was stopped.", ENDED)
        if isinstance(error, ValueError):
            return _complain(str(error))
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            where = f"{error.filename}: " if error.filename else ""
            return _complain(f"{name} has ended. {where}{error.strerror}. {UNWRITABLE[error.errno]}", 1)
        if type(error).__name__ not in ("RunFailedError", "NonFiniteError", "ShardDownError"):
            raise
        return _complain(str(error), 1)


def _dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(DESCRIPTION)
        print("nexus COMMAND --help explains each. Commands:", ", ".join(COMMANDS))
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        return _complain(f"nexus has no command {name!r}; {_nearest(name)}")
    return COMMANDS[name](rest)


def _say_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Errors of an environment's `__del__`; where none has been made, Python's own words."""
    closing = sys.modules.get("actors.closing")
    (closing.say_unraisable if closing else sys.__unraisablehook__)(unraisable)


def _complain(message: str, code: int = 2) -> int:
    print(message, file=sys.stderr)
    return code


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, COMMANDS, n=2)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(COMMANDS)}."


if __name__ == "__main__":
    main()
