"""`nexus eval`."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from deploy.commands.numbers import NotNegative, Positive
from deploy.commands.parsing import OptionalPath, parse
from deploy.commands.waiting import directory_of
from deploy.wiring.config import load_config
from deploy.wiring.output_path import require_writable_folder
from world_models.checkpoint_files import find_model, newest_model, run_of
from world_models.genie.config import GenieConfig
from world_models.model_document import read_family

WORLD = GenieConfig.family


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Score a policy, also inside its own world model, or a world on held-out clips."""

    path: Positional[Path]
    """A run directory or the name of a launched run, for its best policy; or a checkpoint directory."""
    episodes: Positive = 20
    """Number of episodes."""
    video: OptionalPath = None
    """Record the first episode to this file (.mp4 or .gif)."""
    seed: NotNegative = 1_000_000
    """Seed of the episodes, or of the choice of clips and of what is generated."""
    deterministic: bool = False
    """Take the most likely action instead of sampling one."""
    random: bool = False
    """Also score a random policy on the same episodes (where a seed determines each)."""
    imagined: bool = False
    """Let the newest policy of the run imagine returns in its world model, from states of the episodes, and compare
    them with what it then gets."""
    horizon: Annotated[NotNegative, arg(help_behavior_hint="(default: as in training)")] = 0
    """With --imagined: steps that are imagined and really taken."""
    starts: Positive = 10
    """With --imagined: states of each episode from which it imagines."""
    rollouts: Positive = 8
    """With --imagined: how often it imagines from each; their mean counts."""
    clips: Positive = 512
    """Of a world: number of clips, at most."""
    data: Annotated[str, arg(metavar="WHERE", help_behavior_hint="(default: held out from its run)")] = ""
    """Of a world: where the clips come from; named as for nexus pretrain."""
    encoder: Annotated[str, arg(metavar="RUN", help_behavior_hint="(default: none)")] = ""
    """Of a world: a V-JEPA 2, for the Frechet distance of its features."""
    out: OptionalPath = None
    """Of a world: folder for evaluation.json, .png and .mp4; with --imagined for imagined.json and .png; by default the
    run's."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(
        Eval, arguments, prog="nexus eval", example="nexus eval runs/cartpole --episodes 20 --video cartpole.mp4"
    )
    path = directory_of(given.path)
    folder = find_model(path)
    if _family(folder) == WORLD:
        return _world(folder, given)
    if given.imagined:
        return _imagined(path, given)
    if alone := [name for name in ("horizon", "starts", "rollouts") if getattr(given, name) != getattr(Eval, name)]:
        raise ValueError(f"--{alone[0]} is for --imagined; add that, or leave it out.")
    load_config(run_of(folder))  # reports what is wrong before PyTorch is loaded
    from deploy.reports.summary import score

    score(path, given.episodes, given.seed, given.deterministic, given.video, given.random)
    return 0


def _family(folder: Path) -> str:
    """Of the model; empty if that cannot be read, which is for others to report."""
    with suppress(ValueError):
        return read_family(folder).name
    return ""


def _imagined(path: Path, given: Eval) -> int:
    if given.video or given.deterministic or given.random:
        raise ValueError(
            "--imagined compares one policy with itself, and samples its actions as in training: --video, "
            "--deterministic and --random do not apply."
        )
    run = run_of(newest_model(path))
    load_config(run)
    require_writable_folder(given.out or run, "--out")
    from deploy.reports.imagined.evaluation import ImaginedEvaluation, evaluate_imagined

    evaluate_imagined(
        path,
        ImaginedEvaluation(
            episodes=given.episodes, starts=given.starts, horizon=given.horizon, rollouts=given.rollouts,
            seed=given.seed, out=given.out,
        ),
    )  # fmt: skip
    return 0


def _world(folder: Path, given: Eval) -> int:
    if given.video or given.deterministic or given.random or given.imagined or given.episodes != Eval.episodes:
        raise ValueError(
            f"{folder} holds a world, not a policy: --episodes, --video, --deterministic, --random, --imagined do "
            "not apply; --clips says how many clips are generated."
        )
    out = given.out or run_of(folder)
    require_writable_folder(out, "--out")
    from deploy.reports.pretraining.world_evaluation import WorldEvaluation, evaluate_world

    settings = WorldEvaluation(clips=given.clips, data=given.data, encoder=given.encoder, seed=given.seed, out=out)
    evaluate_world(folder, settings)
    return 0
