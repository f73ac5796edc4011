"""`nexus record`."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg

from actors.batch_environment import score_text
from actors.config import EnvironmentConfig
from actors.evaluation import Actions
from actors.trivial_policies import Policy, RandomPolicy
from actors.video import require_video_name
from deploy.commands.numbers import NotNegative, Positive
from deploy.commands.parsing import HELP, OptionalPath, option_names, parse, parse_known
from deploy.exit_codes import INTERRUPTED
from deploy.wiring.config import RunConfig, load_config
from deploy.wiring.output_path import require_writable_file
from deploy.wiring.presets import PRESETS, apply
from deploy.wiring.task import FirstEnvironment, TaskSpaces
from learner.checkpoint import disk_is_full
from replay.counted import counted
from world_models.checkpoint_files import find_model, run_of

EXAMPLE = "nexus record procgen_coinrun --out coinrun --frames 100000"
RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class Start:
    """What the defaults of the other options depend on."""

    task: Annotated[Positional[str], arg(help_behavior_hint="(required)", metavar="TASK")]
    """The environment, named as for `nexus train`."""
    policy: Annotated[str, arg(metavar="random|PATH")] = RANDOM
    """Who plays: uniformly random actions, or the policy of a run (its best one) or of a checkpoint. Its environment's
    options are then the defaults."""
    preset: Annotated[str, arg(help_behavior_hint="(default: the task's)", metavar=f"{{{','.join(PRESETS)}}}")] = ""
    """Named settings, of which those of the environment count."""


@dataclass(frozen=True, kw_only=True)
class Record(Start):
    """Record episodes of TASK as files that `nexus pretrain --data` and `nexus replay import` read.

    The same command continues a recording. Actions and rewards are stored beside what was seen; models of video alone
    do not read them.
    """

    out: Path
    """Folder for the files."""
    frames: Positive
    """Steps to record, of all environments together; each is one picture, whatever the action repeat."""
    envs: Positive = 16
    """Environments that are stepped together."""
    seed: NotNegative = 0
    """Seed of the episodes and of the actions."""
    deterministic: bool = False
    """Take the policy's most likely action instead of sampling one."""
    video: OptionalPath = None
    """Record the first episode to this file (.mp4 or .gif) as well."""
    environment: EnvironmentConfig


def parse_record(arguments: Sequence[str]) -> tuple[Record, RunConfig]:
    """What a command line asks for, and the configuration of a run that would act so. ValueError: one message with what
    is wrong."""
    words = [argument for argument in arguments if argument not in HELP]
    if words and words[0].startswith("-"):
        raise ValueError(f"nexus record: TASK comes first, e.g. {EXAMPLE}")
    start = Start(task=RunConfig().task)
    if words:
        start, _ = parse_known(Start, words, prog="nexus record", example=EXAMPLE, others=tuple(option_names(Record)))
    config = apply(RunConfig(task=start.task), start.preset)
    if start.policy != RANDOM and not start.preset:
        config = replace(config, environment=load_config(run_of(find_model(Path(start.policy)))).environment)
    needed: Any = tyro.MISSING_NONPROP
    default = Record(task=start.task if words else needed, out=needed, frames=needed, environment=config.environment)
    given = parse(Record, arguments, prog="nexus record", example=EXAMPLE, default=default)
    actor = replace(config.actor, environments=given.envs, actors=1)
    return given, replace(config, mode="inline", seed=given.seed, environment=given.environment, actor=actor)


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given, config = parse_record(arguments)
    if given.video:
        require_video_name(given.video)
        require_writable_file(given.video)
    out, video = given.out.absolute(), given.video and given.video.absolute()
    with closing(FirstEnvironment(config)) as environment:
        policy, name, actions = _policy(given, environment.spaces)
        from deploy.record_run import facts, record, schema_of
        from deploy.stored.recording import Recording

        described = facts(config, environment.spaces, name, actions)
        recording = Recording(out, schema_of(environment.spaces), described, given.envs)
        if recording.steps >= given.frames:
            recording.close()
            print(f"{out} has {counted(recording.steps, 'frame')} already; to record more, raise --frames.")
            return 0
        if not any(space.is_image for space in environment.spaces.observation.values()):
            print(f"{given.task} shows no images with these options; nexus pretrain needs some.")
        if recording.continues:
            print(f"Continuing {out} at {counted(recording.steps, 'frame')}, with new episodes.")
        try:
            done = record(config, environment, policy, recording, given.frames, video)
        except OSError as error:
            if not disk_is_full(error):
                raise
            raise SystemExit(
                f"The disk is full ({error.filename or out}). What is in {out} is whole. Free some space; this command "
                f"continues it:\n  {shlex.join(['nexus', 'record', *arguments])}"
            ) from error
    print(f"{counted(done.frames, 'frame')} in {done.seconds:.0f} s, {done.frames / done.seconds:,.0f} frames/s")
    print(f"{_summary(done.index)}: {out}")
    if video:
        print(f"video: {video}")
    if done.interrupted:
        again = shlex.join(["nexus", "record", *arguments])
        print(f"Stopped; what was recorded is stored. Continue with:\n  {again}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _policy(given: Record, spaces: TaskSpaces) -> tuple[Policy, str, Actions]:
    """Who plays, by which name, and how it chooses actions. ValueError: the policy does not fit the task."""
    if given.policy == RANDOM:
        return RandomPolicy(spaces.action, given.seed), RANDOM, "random"
    from actors.policy import load_policy

    folder = find_model(Path(given.policy)).resolve()
    policy = load_policy(folder, mode=given.deterministic, seed=given.seed).policy
    model = policy.model
    for what, its, theirs in (
        ("sees", model.observation_space, spaces.observation),
        ("acts by", model.action_space, spaces.action),
    ):
        if odd := [key for key, space in its.items() if key not in theirs or hash(theirs[key]) != hash(space)]:
            there = ", ".join(f"{key} {space.dtype} {list(space.shape)}" for key, space in theirs.items())
            raise ValueError(
                f"The policy in {folder} {what} {odd[0]} {its[odd[0]].dtype} {list(its[odd[0]].shape)}, but "
                f"{given.task} has {there}; record the task that it was trained on, with the same options."
            )
    return policy, str(folder), "mode" if given.deterministic else "sampled"


def _summary(index: Mapping[str, Any]) -> str:
    """`120,000 frames, 171 whole episodes, mean score 3.27`."""
    scores = [one["return"] for one in index["episodes"] if one["ended"]]
    mean = f", mean score {score_text(fmean(scores))}" if scores else ""
    return f"{counted(index['counts']['steps'], 'frame')}, {counted(len(scores), 'whole episode')}{mean}"
