"""`nexus baseline`."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import FlagConversionOff, Positional, arg

from deploy.commands.parsing import HELP, option_names, parse, parse_known
from deploy.exit_codes import INTERRUPTED
from deploy.reports.summary import FRESH_SEED
from deploy.wiring.baselines import METHODS, BaselineConfig, PPOConfig, SACConfig, preset_for
from deploy.wiring.config import RunConfig
from deploy.wiring.output_path import require_writable_folder
from deploy.wiring.presets import PRESETS
from deploy.wiring.task import FirstEnvironment

EXAMPLE = "nexus baseline ppo gym:CartPole-v1 --frames 100000"


@dataclass(frozen=True, kw_only=True)
class Start:
    """What the defaults of the other options depend on."""

    method: Annotated[Positional[str], arg(help_behavior_hint="(required)", metavar="{ppo,sac}")]
    """RLlib's algorithm."""
    task: Annotated[Positional[str], arg(help_behavior_hint="(required)", metavar="TASK")]
    """As in `nexus train`."""
    preset: Annotated[str, arg(help_behavior_hint="(default: the task's)", metavar=f"{{{','.join(PRESETS)}}}")] = ""
    """The environment is that of this preset of `nexus train`; `quick` also makes SAC small and fast."""


@dataclass(frozen=True, kw_only=True)
class PPO(Start):
    """Train RLlib's PPO or SAC on TASK, to compare with.

    Environment, frame counts and logs are those of `nexus train`, so that `nexus plot` and `nexus report` take both
    kinds of runs. The same command with the same --logdir continues the run, with new episodes.

    Every field of the configuration is an option, e.g. --lr 0.001; those of SAC: nexus baseline sac --help.
    """

    config: Annotated[FlagConversionOff[PPOConfig], arg(name="")]


@dataclass(frozen=True, kw_only=True)
class SAC(Start):
    """Train RLlib's SAC or PPO on TASK, to compare with.

    Environment, frame counts and logs are those of `nexus train`, so that `nexus plot` and `nexus report` take both
    kinds of runs. The same command with the same --logdir continues the run, with new episodes.

    Every field of the configuration is an option, e.g. --actor-lr 0.001; those of PPO: nexus baseline ppo --help.
    """

    config: Annotated[FlagConversionOff[SACConfig], arg(name="")]


COMMANDS: dict[str, Any] = {"ppo": PPO, "sac": SAC}


def parse_baseline(arguments: Sequence[str]) -> BaselineConfig:
    """The configuration that a command line asks for. ValueError: one message with what is wrong."""
    words = [argument for argument in arguments if argument not in HELP]
    method = words[0] if words and words[0] in METHODS else ""
    if not method:
        if words:
            raise ValueError(f"nexus baseline knows the methods {', '.join(METHODS)}, not {words[0]!r}, e.g. {EXAMPLE}")
        if not arguments:
            raise ValueError(f"nexus baseline needs a method and a TASK, e.g. {EXAMPLE}")
    command = COMMANDS[method or "ppo"]
    if len(words) < 2 and len(words) < len(arguments):
        start = Start(method=method or "ppo", task=RunConfig().task)
    else:
        start, _ = parse_known(
            Start, words, prog="nexus baseline", example=EXAMPLE, others=tuple(option_names(command))
        )  # fmt: skip
    default = preset_for(start.method, start.task, start.preset)
    given = command(method=start.method, task=start.task, preset=start.preset, config=default)
    config: BaselineConfig = parse(command, arguments, prog="nexus baseline", example=EXAMPLE, default=given).config
    if (config.task, config.method) != (start.task, start.method):
        raise ValueError("nexus baseline: leave out --task and --method; they are the first two arguments.")
    if not config.logdir:
        name = config.task.replace(":", "_").replace("/", "_")
        config = replace(config, logdir=str(Path("runs") / f"{config.method}-{name}-seed{config.seed}"))
    return config


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code. What is wrong with the task is reported before anything starts."""
    config = parse_baseline(arguments)
    require_writable_folder(Path(config.logdir), "--logdir")
    try:
        from deploy.distributed.baselines.run import BaselineRun
        from deploy.distributed.baselines.scores import summarize
    except ImportError as error:
        raise ValueError(
            f'Baselines need RLlib, and {error.name} is not installed: pip install "nexus-worlds[baselines]"'
        ) from error
    named = any(argument.split("=")[0] == "--logdir" for argument in arguments)
    again = shlex.join(["nexus", "baseline", *arguments, *([] if named else ["--logdir", config.logdir])])
    with closing(FirstEnvironment(config.as_run)) as environment:
        baseline = BaselineRun(config, Path(config.logdir), environment)
        outcome = baseline.run()
    if outcome == "interrupted":
        print(f"Stopped and saved. Continue with:\n  {again}", file=sys.stderr)
        return INTERRUPTED
    policy = baseline.policy(FRESH_SEED + config.seed)
    summarize(config, Path(config.logdir), policy, environment.spaces.action, baseline.newest)
    return 0
