"""The summary at the end of a run: scores on fresh episodes, a curve, a video, and their paths."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.environment import CannotDrawError
from actors.envs.atari.human_scores import describe_human_normalised
from actors.episode_metrics import ACHIEVEMENTS, achievement_score
from actors.evaluation import PARALLEL, Actions, Evaluation, describe_metrics, run_episodes
from actors.policy import ModelPolicy, load_policy
from actors.trivial_policies import Policy, RandomPolicy
from actors.video import require_video_name, write_video
from deploy.reports.curves import load_runs
from deploy.reports.episode_progress import EpisodeProgress
from deploy.reports.health.files import read_reports
from deploy.reports.health.verdicts import unhealthy, verdicts
from deploy.reports.metrics import SCORES, read_lines
from deploy.reports.plot import plot
from deploy.wiring.build import build_policy
from deploy.wiring.config import RunConfig, load_config
from deploy.wiring.output_path import require_writable_file
from deploy.wiring.task import environment_maker, pool_maker
from replay.counted import counted
from replay.errors import NexusError
from replay.files.whole_file import whole_file
from world_models.checkpoint_files import MANIFEST, WEIGHTS, DamagedCheckpointError, find_model, read_document, run_of
from world_models.dreamer.agent import Dreamer
from world_models.loading import load_world_model

ENDLESS = 1000
"""If training saw no episode end in this many frames of each environment, no episode is played for a score."""
FRESH_SEED = 1_000_000
"""Seed of the episodes for final scores, different from that of any evaluation during training."""


def score(
    path: Path,
    episodes: int,
    seed: int,
    mode: bool = False,
    video: Path | None = None,
    with_random: bool = False,
    undrawn: Callable[[Exception], object] | None = None,
) -> tuple[Evaluation, Evaluation | None]:
    """Play `episodes` fresh episodes with the policy of a run or checkpoint, print the scores, write the video.

    If there can be no video, `undrawn` is called with the error and the scores continue without. Without `undrawn` this
    raises CannotDrawError, or OSError, after printing the scores, if the video cannot be written.
    """
    if video:
        require_video_name(video)
        require_writable_file(video)
    folder = find_model(path)
    config = replace(load_config(run_of(folder)), seed=seed)
    policy, actions = _acting(config, folder, mode), "mode" if mode else config.actor.actions
    print(f"Policy {folder}, {config.task}:")
    try:
        ours = _play(config, policy, episodes, actions, bool(video), label(folder))
    except CannotDrawError as error:
        if undrawn is None:
            raise
        undrawn(error)
        policy, video = _acting(config, folder, mode), None  # start over without
        ours = _play(config, policy, episodes, actions, False, label(folder))
    print(_described(label(folder), str(ours), ours.metrics, episodes), *_human_normalised(config, ours.mean), sep="\n")
    random = None
    if with_random:
        random = _play(config, RandomPolicy(policy.model.action_space, seed), episodes, "random", False, "random")
        text = _described("random", str(random), random.metrics, episodes)
        print(text, *_human_normalised(config, random.mean), sep="\n")
    print(f"  {describe_protocol(ours.protocol)}")
    if video:
        try:
            print(f"  video: {write_video(video, ours.frames)}")
        except (OSError, RuntimeError, NexusError) as error:  # imageio raises RuntimeError if it finds no ffmpeg
            if undrawn is None:
                raise
            undrawn(error)
    return ours, random


def _acting(config: RunConfig, folder: Path, mode: bool) -> ModelPolicy:
    """What acts in a run: its policy, or a planner over its model, but for the modes of the policy."""
    if mode or not config.actor.plans:
        return load_policy(folder, mode=mode, seed=config.seed).policy
    model = load_world_model(folder).model
    assert isinstance(model, Dreamer), type(model)
    return build_policy(config, model, config.seed)


def label(folder: Path) -> str:
    """`trained`, or `untrained` for a checkpoint from before the first update."""
    updates: Any = int(folder.name) if folder.name.isdecimal() else None
    with suppress(ValueError, LookupError, TypeError):
        updates = read_document(folder / "score.json")["updates"]
    return "untrained" if updates == 0 else "trained"


def _described(name: str, scores: str, metrics: Mapping[str, Sequence[float]], episodes: int) -> str:
    """The lines about one policy."""
    return "\n    ".join([f"  {name + ':':<8} {scores}", *describe_metrics(metrics, episodes)])


def _human_normalised(config: RunConfig, mean: float) -> list[str]:
    """The line of an Atari game; none if scores are those of single lives."""
    whole = config.environment.atari.life_loss != "reset"
    return [f"    {line}" for line in describe_human_normalised(config.task, mean)] if whole else []


def describe_protocol(protocol: Mapping[str, Any]) -> str:
    """`protocol: 20 episodes, sampled actions, first seed 12345, back end dm_control`."""
    parts = [counted(protocol["episodes"], "episode"), f"{protocol['actions']} actions"]
    if (first := protocol["seeds"][0]) >= 0:  # -1: the back end takes none
        parts.append(f"first seed {first}")
    if protocol["backend"]:
        parts.append(f"back end {protocol['backend']}")
    return f"protocol: {', '.join(parts)}"


def _play(config: RunConfig, policy: Policy, episodes: int, actions: Actions, video: bool, title: str) -> Evaluation:
    makers = [environment_maker(config)] * min(PARALLEL, episodes)
    with EpisodeProgress(title, episodes) as progress:
        return run_episodes(
            makers, policy, episodes, config.seed, actions=actions, video_episodes=video, pool=pool_maker(config),
            check=config.environment.check_steps, watch=progress.update,
        )  # fmt: skip


def summarize(config: RunConfig, logdir: Path, episodes: int = 20) -> None:
    """Score the best policy and a random one, draw the curve, record a video. The last lines give their paths, or why
    one is missing; the run itself is over and saved."""
    video, trivial = logdir / "videos" / "best.mp4", logdir / "random.json"
    places: list[tuple[str, Path | str]] = []
    try:
        if (
            not config.offline
            and not (logdir / SCORES).exists()
            and config.frames > ENDLESS * config.actor.environments
        ):
            raise ValueError("no episode has ended in training; set environment.time_limit so that they do.")
        random = _final_scores(config, logdir, episodes, video, places)
        line = {"task": config.task, "method": "random policy", "seed": 0, "xs": [0], "ys": [random]}
        with whole_file(trivial) as fresh:
            fresh.write_text(json.dumps([line]))
    except (ValueError, OSError) as error:  # e.g. episodes that never end, or a full disk
        places.append(("scores", f"none: {_reason(error)}"))
    places.insert(0, ("curve", _curve(config, logdir, [trivial] if trivial.exists() else [])))
    for picture in sorted((logdir / "videos").glob("openloop-*.*"))[-1:]:
        places.append(("open loop", picture))
    try:
        places.append(("checkpoint", find_model(logdir)))
    except ValueError as error:
        places.append(("checkpoint", f"none: {error}"))
    print()
    if achievements := _training_achievements(logdir):
        print(achievements)
    for name, place in places:
        print(f"{name + ':':<12}{place}")
    for one in unhealthy(verdicts(read_reports(logdir), config.health)):
        print(f"World model, {one.title}: {one.text} {one.remedy}")


def _training_achievements(logdir: Path) -> str:
    """Crafter's score of all training episodes, which is how results are published; empty without achievements."""
    metrics: dict[str, list[float]] = {}
    episodes = 0
    with suppress(ValueError):  # no episode has ended; what is damaged is said where the curve is drawn
        for line in read_lines(logdir / SCORES, kind=str):
            if line["kind"] == "train":
                episodes += 1
                for name, value in line.items():
                    if name.startswith(ACHIEVEMENTS) and isinstance(value, int | float):
                        metrics.setdefault(name, []).append(value)
    score = achievement_score(metrics)
    return "" if score is None else f"Crafter score of {counted(episodes, 'training episode')}: {score:.2f} %"


def _curve(config: RunConfig, logdir: Path, baselines: Sequence[Path]) -> Path | str:
    """Draw the curve. Returns its path, or why there is none."""
    notes: list[str] = []
    try:
        runs = load_runs([logdir], note=notes.append)
        if not (runs.curves or runs.evaluations or runs.damaged):
            if config.offline and not config.evaluation.every:
                return "none: an offline run has a curve only if --evaluation.every is set."
            return f"none: {notes[-1] if notes else 'there is no score.'}"
        plot([logdir], out=logdir / "curve.png", baselines=baselines)
    except (ValueError, OSError) as error:
        return f"none: {_reason(error)}"
    return logdir / "curve.png"


def _final_scores(
    config: RunConfig, logdir: Path, episodes: int, video: Path, places: list[tuple[str, Path | str]]
) -> float:
    """Write `evaluation.json` and, if the task can be rendered, the video. Returns the random policy's mean score.
    A policy that has been scored already is not played again."""
    policy, file = find_model(logdir), logdir / "evaluation.json"
    version = _version(policy)
    with suppress(OSError, ValueError, RecursionError, LookupError, TypeError):
        kept = json.loads(file.read_text())
        if version and kept["version"] == version:
            mean, texts = float(kept["random"]["mean"]), [f"Policy {policy}, {config.task}:"]
            for name, player in ((label(policy), kept["trained"]), ("random", kept["random"])):
                texts.append(_described(name, player["text"], player.get("metrics", {}), len(player["scores"])))
                texts += _human_normalised(config, float(player["mean"]))
            if protocol := kept["trained"].get("protocol"):  # an earlier version stored none
                texts.append(f"  {describe_protocol(protocol)}")
            print("\n".join(texts))
            if video.exists():
                places.append(("video", video))
            return mean
    seed = FRESH_SEED + config.seed
    undrawn: list[Exception] = []
    ours, random = score(logdir, episodes, seed, video=video, with_random=True, undrawn=undrawn.append)
    places.append(("video", f"none: {_reason(undrawn[0])}" if undrawn else video))
    assert random is not None
    outcome = {
        name: {
            "mean": result.mean,
            "interval95": result.interval,
            "scores": result.scores,
            "metrics": result.metrics,
            "protocol": result.protocol,
            "text": str(result),
        }  # fmt: skip
        for name, result in (("trained", ours), ("random", random))
    }
    with whole_file(file) as fresh:
        fresh.write_text(json.dumps({**outcome, "version": version}, indent=2))
    return random.mean


def _reason(error: Exception) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)


def _version(policy: Path) -> str:
    """Identifies the policy by the checksum of its weights; empty if there is none."""
    try:
        return str(read_document(policy / MANIFEST)[WEIGHTS])
    except (DamagedCheckpointError, KeyError):
        return ""
