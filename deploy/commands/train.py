"""`nexus train`."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import FlagConversionOff, Positional, arg

from actors.config import ActorConfig
from deploy.commands.numbers import Actors
from deploy.commands.parsing import HELP, option_names, parse, parse_known
from deploy.commands.waiting import directory_of
from deploy.exit_codes import FAILED, INTERRUPTED
from deploy.reports.hooks import Hooks
from deploy.reports.scoreboard import solved_before
from deploy.stored.forecast import require_memory
from deploy.stored.report import inspect
from deploy.stored.sources import open_sources
from deploy.wiring.config import RunConfig, claim_logdir, rooted
from deploy.wiring.output_path import require_writable_folder
from deploy.wiring.presets import PRESETS, apply, options_for
from deploy.wiring.probe import probe
from deploy.wiring.stores import damage
from deploy.wiring.task import FirstEnvironment, TaskSpaces, require_trainable
from deploy.wiring.transfer import require_another, with_networks
from learner.checkpoint import Checkpoints, NoWholeCheckpointError, continuation, disk_is_full
from world_models.dreamer.config import SIZES

if TYPE_CHECKING:
    from deploy.distributed.cluster.probe import Cluster
    from deploy.distributed.supervisor.local_run import LocalRun
    from deploy.inline_run import InlineRun

EXAMPLE = "nexus train gym:CartPole-v1 --preset quick"


@dataclass(frozen=True, kw_only=True)
class Start:
    """What the defaults of the other options depend on."""

    task: Annotated[Positional[str], arg(help_behavior_hint="(required)", metavar="TASK")]
    """gym:ID, gym:module:ID (imports the module first), rllib:module:NAME (registered with Ray), dmc_domain_task,
    atari_game, crafter_reward, minigrid_NAME, memory_maze_SIZE, procgen_game, metaworld_task or envpool:ID."""
    preset: Annotated[str, arg(help_behavior_hint="(default: the task's)", metavar=f"{{{','.join(PRESETS)}}}")] = ""
    """Named settings."""
    size: Annotated[str, arg(help_behavior_hint="(default: the preset's)", metavar=f"{{{','.join(SIZES)}}}")] = ""
    """Size of the networks."""
    replay: Annotated[str, arg(help_behavior_hint="(optional)", metavar="STORE")] = ""
    """Short for --replay.store: memory, disk or Redis URLs."""
    actors: Annotated[Actors, arg(help_behavior_hint="(optional)")] = None
    """Short for --actor.actors; `auto`: for --actor.autoscale.on."""


@dataclass(frozen=True, kw_only=True)
class Train(Start):
    """Train DreamerV3 on TASK.

    The same command with the same --logdir continues the run.

    Every field of the configuration is an option, e.g. --learner.batch-size 8.
    """

    dry_run: bool = False
    """Print parameters, memory, arithmetic and expected speed of the updates; start and write nothing."""
    dry_run_device: Annotated[str, arg(help_behavior_hint="(default: this machine's)", metavar="cpu|h100|...")] = ""
    """With --dry-run: this machine's CPU, which is measured, or a GPU by its published rates: rtx3090, rtx4090, a10,
    l4, l40s, a100, h100, h200 or b200."""
    config: Annotated[FlagConversionOff[RunConfig], arg(name="")]


def parse_train(arguments: Sequence[str]) -> RunConfig:
    """The configuration that a `nexus train` command line asks for. ValueError: one message with what is wrong."""
    given = _parse(arguments)
    if given.dry_run:
        raise ValueError("--dry-run is for nexus train itself; leave it out.")
    return given.config


def _parse(arguments: Sequence[str]) -> Train:
    if arguments and not arguments[0].startswith("-"):
        start, _ = parse_known(
            Start, [argument for argument in arguments if argument not in HELP], prog="nexus train", example=EXAMPLE,
            others=tuple(option_names(Train)),
        )  # fmt: skip
    elif any(flag in arguments for flag in HELP):
        start = Start(task=RunConfig().task)
    elif arguments:
        raise ValueError(
            "TASK comes first: nexus train TASK --options, e.g. nexus train gym:CartPole-v1 --logdir runs/1"
        )
    else:
        raise ValueError(f"the TASK is missing, e.g. {EXAMPLE}")
    default = apply(RunConfig(task=start.task), start.preset, start.size)
    if start.replay:
        default = replace(default, replay=replace(default.replay, store=start.replay))
    if start.actors:
        default = replace(default, actor=_with_actors(default.actor, start.actors))

    def parsed(default: RunConfig) -> Train:
        given = Train(task=start.task, config=default)
        given = parse(Train, arguments, prog="nexus train", example=EXAMPLE, default=given)
        config = given.config
        name = config.task.replace(":", "_").replace("/", "_")
        initial = str(directory_of(Path(config.init_from)).absolute()) if config.init_from else ""
        logdir = config.logdir or str(Path("runs") / f"{name}-seed{config.seed}")
        return replace(given, config=replace(config, init_from=initial, logdir=logdir))

    given = parsed(default)
    config = given.config
    if config.task != start.task:
        raise ValueError(f"nexus train: --task {config.task} differs from TASK {start.task}; leave out --task.")
    if config.init_from:
        require_another(config)
    if config.init_from and not start.size:
        given = parsed(replace(default, model=with_networks(config, default.model)))
    if config.offline:
        for source in open_sources(config.offline, damaged=[]):
            source.close()
    if given.dry_run_device and not given.dry_run:
        raise ValueError("nexus train: --dry-run-device is for --dry-run; add that, or leave it out.")
    return given


def _with_actors(config: ActorConfig, actors: int | str) -> ActorConfig:
    if isinstance(actors, str):
        return replace(config, autoscale=replace(config.autoscale, on=True))
    return replace(config, actors=actors)


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code. What is wrong with the task is reported before anything starts."""
    given = _parse(arguments)
    config = given.config
    Hooks(config.hooks)  # what is wrong with them is reported before the environment is made
    if given.dry_run:
        return _dry_run(config, given.dry_run_device)
    if config.mode == "inline":
        with closing(FirstEnvironment(config)) as environment:
            return _train(config, environment.spaces, environment, arguments)
    cluster = None
    if config.mode == "cluster":
        from deploy.distributed.cluster.capacity import find_room

        cluster = find_room(config)
    return _train(config, probe(config), None, arguments, cluster)


def _dry_run(config: RunConfig, device: str) -> int:
    from deploy.reports.cost.forecast import choose_device, forecast, lines

    device = choose_device(config, device)
    spaces = probe(config)
    require_trainable(config, spaces)
    print(*lines(config, spaces, forecast(config, spaces, device)), sep="\n")
    return 0


def _train(
    config: RunConfig, spaces: TaskSpaces, environment: FirstEnvironment | None, arguments: Sequence[str],
    cluster: "Cluster | None" = None,
) -> int:  # fmt: skip
    require_trainable(config, spaces)
    logdir = Path(config.logdir).absolute()
    require_writable_folder(Path(config.logdir), "--logdir")
    if cluster is None:  # replay is elsewhere otherwise
        if config.replay.kind == "disk" and config.replay.directory:
            require_writable_folder(Path(config.replay.directory), "--replay.directory")
        require_memory(config, spaces, print)
    there = rooted(config)
    named = any(argument.split("=")[0] == "--logdir" for argument in arguments)
    again = shlex.join(["nexus", "train", *arguments, *([] if named else ["--logdir", str(logdir)])])
    try:
        if before := solved_before(config, logdir):
            claim_logdir(config, logdir).confirm()
            print(f"{logdir}: {before}. To continue training, raise --evaluation.stop-score, or set it to 0.")
            outcome, lost = "solved", list[str]()
        else:
            run = _begin(config, logdir, spaces, environment, cluster)
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
            f"{continuation(max(Checkpoints.of(logdir).numbers(), default=-1))}:\n  {again}"
        ) from error
    if outcome in ("interrupted", "stopped"):
        if damaged := damage(there):
            print(damaged)
        how = "" if outcome == "interrupted" else " on request"
        print(f"Stopped{how} and saved. Continue with:\n  {again}", file=sys.stderr)
        # Whoever starts what has failed again, as containers do, must not start what was stopped on request.
        return INTERRUPTED if outcome == "interrupted" else 0
    from deploy.reports.summary import summarize

    summarize(config, logdir)
    if lost:
        print(f"Parts of {config.offline} are damaged and were not used: {'; '.join(lost)}.")
    if damaged := damage(there):
        print(damaged)
    return FAILED if lost else 0


def _begin(
    config: RunConfig, logdir: Path, spaces: TaskSpaces, environment: FirstEnvironment | None,
    cluster: "Cluster | None",
) -> "InlineRun | LocalRun":  # fmt: skip
    if environment:
        from deploy.inline_run import InlineRun
        from learner.freed_memory import keep_freed_memory

        keep_freed_memory()
        return InlineRun(config, logdir, environment)
    from deploy.distributed.supervisor.local_run import LocalRun

    return LocalRun(config, logdir, spaces, cluster)


def _what_is_left(config: RunConfig, logdir: Path) -> str:
    """For a run whose checkpoints are all damaged: how to train on its replay, if that is intact."""
    with ExitStack() as stack:
        try:
            readers = [stack.enter_context(closing(one)) for one in open_sources(str(logdir))]
            whole = inspect(readers, verify=True, everything=False, down=[])["healthy"]
        except (ValueError, OSError, RuntimeError):
            return ""
    new = logdir.with_name(f"{logdir.name}-offline")
    again = ["nexus", "train", config.task, *options_for(config), "--offline", str(logdir), "--logdir", str(new)]
    return f"Its stored replay is intact; to train on it: {shlex.join(again)}" if whole else ""
