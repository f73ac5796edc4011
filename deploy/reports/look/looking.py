"""Looks into a trained model: pictures and look.json in one folder."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.reports.look.agent import AgentLook
from deploy.reports.look.data import RUNS, NothingLeftError, examples_of, is_other, learned_from, replay_of
from deploy.reports.look.pretrained import PretrainedLook
from deploy.reports.pretraining.probing import Progress
from deploy.wiring.output_path import require_new_folder, require_writable_folder
from learner.pretrain.pretrainer import choose_device
from replay.files.whole_file import whole_file
from world_models.checkpoint_files import newest_model, run_of
from world_models.dreamer.agent import Dreamer
from world_models.loading import LoadedModel, load_world_model
from world_models.model_document import read_family

DOCUMENT, FOLDER = "look.json", "look"
VIEWS = ("pca", "heat", "neighbours", "rollout")
"""What can be shown, in order."""
MOST = 32
"""Images or clips in a picture, at most."""
IMAGES, CLIPS = 8, 4
"""How many are shown."""
_LACKS = {
    ("ijepa", "rollout"): "I-JEPA sees single images and imagines no future",
    ("vjepa2", "rollout"): "V-JEPA 2 predicts hidden parts of a clip, not what follows it; V-JEPA 2-AC does",
    ("latent_world", "heat"): "a latent world predicts one vector a frame, which has no patches",
}
_NO_PICTURES = "the agent sees no pictures, only vectors"


@dataclass(frozen=True, kw_only=True)
class LookSettings:
    """What is shown, of which data, and where it goes."""

    data: str = ""
    """Empty: what was held out from the run; of an agent, the run's replay."""
    only: tuple[str, ...] = ()
    """Some of `VIEWS`; empty: all that the model has."""
    count: int | None = None
    """Images or clips in a picture; None: `IMAGES` or `CLIPS`."""
    seed: int = 0
    out: Path | None = None
    """A new folder; None: `look` in the run, whose files of an earlier look are replaced."""
    device: str = "auto"


def look(path: Path, settings: LookSettings) -> dict[str, Any]:
    """Draw the pictures of the model at `path`, a run or a checkpoint; returns what is in look.json.

    ValueError: there is no such model, a view does not exist for it, the data cannot be used, or `out` exists.
    """
    if settings.count is not None and settings.count > MOST:
        raise ValueError(f"--count {settings.count} is more than {MOST}, as many as a picture can hold; give fewer.")
    folder = newest_model(path)
    family = read_family(folder).name
    if family not in (*RUNS, "dreamer"):
        raise ValueError(_refusal(folder, family))
    lacking = {view: _LACKS[family, view] for view in VIEWS if (family, view) in _LACKS}
    _require_views(settings.only, lacking, folder)
    out = settings.out or _home(path, folder)
    if settings.out:
        require_new_folder(out, "--out")
    require_writable_folder(out, "--out")
    loaded = load_world_model(folder, choose_device(settings.device))
    with _opened(loaded, settings) as (viewer, described):
        if isinstance(viewer, AgentLook) and not viewer.image:
            lacking = dict.fromkeys(VIEWS[:3], _NO_PICTURES)
            _require_views(settings.only, lacking, folder)
        print(f"Model {folder}, {described['data']}:", flush=True)
        if not described["held_out"]:
            print("The model was trained on these: none are held out. Name others with --data.")
        document: dict[str, Any] = {"checkpoint": str(folder), "family": family, **described, "seed": settings.seed}
        views = [view for view in VIEWS if view in (settings.only or VIEWS) and view not in lacking]
        drawn = {}
        for view in views:
            try:
                drawn[view] = getattr(viewer, view)()
            except NothingLeftError as error:
                if settings.only:
                    raise
                lacking = lacking | {view: str(error).rstrip(".")}
    document |= _kept(out, str(folder)) if settings.only else {}
    _clear(out, views if settings.only else VIEWS)
    for view, (numbers, figures) in drawn.items():
        document[view] = numbers
        for name, figure in figures.items():
            with whole_file(out / name) as fresh:
                figure.savefig(fresh, dpi=110, facecolor="white")
            print(f"  {Path(name).stem + ':':<12}{out / name}{_summary(view, numbers)}", flush=True)
    if not settings.only:
        document["left_out"] = lacking
        for view, reason in lacking.items():
            print(f"  {view + ':':<12}none; {reason}")
    with whole_file(out / DOCUMENT) as fresh:
        fresh.write_text(json.dumps(document, indent=2) + "\n")
    print(f"  {'numbers:':<12}{out / DOCUMENT}")
    return document


@contextmanager
def _opened(loaded: LoadedModel, settings: LookSettings) -> Iterator[tuple[Any, dict[str, Any]]]:
    """What draws, and what is known of its data."""
    note, model = Progress(), loaded.model
    if isinstance(model, Dreamer):
        run = run_of(loaded.folder) if not settings.data else _run_or_folder(loaded.folder)
        where = settings.data or str(run)
        with replay_of(where) as readers:
            yield AgentLook(
                model, readers, where, loaded.document.task, _updates(loaded.folder), settings.count or CLIPS,
                settings.seed, note,
            ), {"data": f"steps of {where}", "held_out": is_other(settings.data, *learned_from(run))}  # fmt: skip
        return
    with examples_of(loaded.folder, loaded.document.config, settings.data) as examples:
        single = getattr(loaded.document.config, "frames", 1) == 1
        count = settings.count or (IMAGES if single else CLIPS)
        described = {"data": str(examples), "held_out": examples.apart}
        yield PretrainedLook(model, examples, count, settings.seed, note), described


def _require_views(wanted: Sequence[str], lacking: Mapping[str, str], folder: Path) -> None:
    for view in wanted:
        if view in lacking:
            raise ValueError(f"There is no {view} of {folder}: {lacking[view]}.")


def _updates(folder: Path) -> int:
    """Those of a checkpoint; 0 if it does not say."""
    with suppress(ValueError):
        return int(folder.name)
    return 0


def _home(path: Path, folder: Path) -> Path:
    """Where pictures go by default: in the run, or in the folder of a model without a run."""
    return (path if folder != path else _run_or_folder(folder)) / FOLDER


def _run_or_folder(folder: Path) -> Path:
    """The run of a checkpoint, or the folder itself where there is none."""
    with suppress(ValueError):
        return run_of(folder)
    return folder


def _kept(out: Path, checkpoint: str) -> dict[str, Any]:
    """The numbers of an earlier look into the same checkpoint."""
    try:
        earlier = json.loads((out / DOCUMENT).read_text())
        return {view: earlier[view] for view in VIEWS if view in earlier} if earlier["checkpoint"] == checkpoint else {}
    except (OSError, ValueError, KeyError, TypeError):  # none, or not ours
        return {}


def _clear(out: Path, views: Sequence[str]) -> None:
    """Remove what an earlier look, perhaps of another checkpoint, has drawn of these views, and its numbers."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (DOCUMENT, *(f"{view}{more}.png" for view in views for more in ("", "_layers"))):
        (out / name).unlink(missing_ok=True)


def _summary(view: str, numbers: dict[str, Any]) -> str:
    if view == "heat" and numbers["error"] is not None:
        return f"  error {numbers['error']:.3g}, {numbers['trivial_prediction']} {numbers['trivial']:.3g}"
    if view == "rollout" and numbers.get("ratio") is not None:
        return f"  error {numbers['ratio']:.3g} of that of the last frame, repeated"
    if view == "neighbours" and "same_class" in numbers["features"]:
        ours, raw = (numbers[key]["same_class"] for key in ("features", "pixels"))
        return f"  of the query's class {ours:.0%}, by pixels {raw:.0%}"
    return ""


def _refusal(folder: Path, family: str) -> str:
    if family.startswith("genie_"):
        return f"{folder} holds a part of Genie; give the run of nexus pretrain genie, or genie-dynamics, that uses it."
    return (
        f"{folder} holds a model of family {family!r}, into which nexus look does not see; it takes runs of nexus "
        "train and of nexus pretrain ijepa, vjepa2, vjepa2-ac, latent and genie."
    )
