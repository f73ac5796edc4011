"""A generated world on held-out clips: a table, evaluation.json, a picture and a video."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deploy.reports.pretraining.world_pictures import panels, write_strip, write_world_video
from deploy.stored.pretraining_data import PretrainingData
from deploy.wiring.config_file import read_config
from deploy.wiring.pretraining import GenieDynamicsRun
from learner.datasets.batches import Batches
from learner.pretrain.pretrainer import choose_device
from learner.video_quality.evaluation import HORIZONS, evaluate
from replay.counted import counted
from replay.files.whole_file import whole_file
from world_models.checkpoint_files import newest_model, run_of
from world_models.genie.dynamics import Sampling
from world_models.genie.genie import Genie
from world_models.jepa.vjepa2 import VJEPA2
from world_models.loading import load_model, load_world_model

EVALUATION, STRIP, VIDEO = "evaluation.json", "evaluation.png", "evaluation.mp4"
_AT_ONCE = 32  # clips


@dataclass(frozen=True, kw_only=True)
class WorldEvaluation:
    """What `evaluate_world` measures, and where."""

    clips: int = 512
    """Clips at most."""
    data: str = ""
    """Where they come from; empty for those that were held out from the run."""
    encoder: str = ""
    """A run or checkpoint of V-JEPA 2, for the Frechet distance of its features; empty for none."""
    seed: int = 1_000_000
    """Of the choice of clips, and of all draws; by default that of `nexus eval`."""
    sampling: Sampling | None = None
    """How tokens are sampled; by default as configured."""
    out: Path | None = None
    """Folder of the files; by default the run's."""


def evaluate_world(path: Path, settings: WorldEvaluation | None = None) -> dict[str, Any]:
    """Measure the world of a run or checkpoint, print the table, write the files; returns what is in evaluation.json.

    ValueError: no such world, or no clips.
    """
    settings = settings or WorldEvaluation()
    device = choose_device("auto")
    folder, _, model = load_world_model(newest_model(path), device)
    assert isinstance(model, Genie), folder
    encoder = load_model(settings.encoder, device) if settings.encoder else None
    if not isinstance(encoder, VJEPA2 | None):
        raise ValueError(f"{settings.encoder} is no V-JEPA 2; give a run of nexus pretrain vjepa2.")
    out = settings.out or run_of(folder)
    config = read_config(GenieDynamicsRun, run_of(folder))
    with PretrainingData(_measured(config, settings)) as data:
        clips = min(settings.clips, len(data.held_out))
        batches = Batches(data.held_out, size=min(_AT_ONCE, clips), seed=settings.seed, threads=0)
        other = settings.data and os.path.abspath(settings.data) != os.path.abspath(config.data.where)
        named, apart = data.held_out.describe(), bool(other) or data.held_out is not data.reference

        print(f"Measuring the world on {counted(clips, 'clip')} of {named}.", flush=True)

        def seen() -> Iterator[Mapping[str, Tensor]]:
            for k in range(-(-clips // batches.size)):
                rows = clips - k * batches.size  # left, of the last batch
                yield {key: torch.from_numpy(value[:rows]).to(device) for key, value in batches.batch(k).items()}

        found = evaluate(
            model, seen(), seed=settings.seed, horizons=tuple(k for k in HORIZONS if k < model.config.frames),
            sampling=settings.sampling, encoder=encoder,
        )  # fmt: skip
        first = next(seen())
    shown = panels(model, first, torch.Generator(device).manual_seed(settings.seed), settings.sampling)
    document = {
        "checkpoint": str(folder), "data": named, "held_out": apart, "seed": settings.seed,
        "encoder": str(newest_model(Path(settings.encoder))) if settings.encoder else None, **found,
    }  # fmt: skip
    print(f"World {folder}, {counted(found['clips'], 'clip')} of {named}:")
    print("\n".join(table(found)))
    if not apart:
        print("The world was trained on these clips: none are held out. Name others with --data.")
    with whole_file(out / EVALUATION) as fresh:
        fresh.write_text(json.dumps(document, indent=2) + "\n")
    print(f"{'measures:':<12}{out / EVALUATION}")
    print(f"{'picture:':<12}{write_strip(shown, out / STRIP)}")
    print(f"{'video:':<12}{write_world_video(shown, out / VIDEO)}")
    return document


def table(found: Mapping[str, Any]) -> list[str]:
    """The measures as lines of text."""
    steps = [k for k in HORIZONS if f"psnr_{k}" in found]
    lines = [f"{'':<24}" + "".join(f"{counted(k, 'step'):>22}" for k in steps)]
    rows = {"psnr": "PSNR, dB", "copy_psnr": "  last frame", "ssim": "SSIM", "copy_ssim": "  last frame"}
    for key, name in rows.items():
        if all(f"{key}_{k}" in found for k in steps):
            lines.append(
                f"{name:<24}" + "".join(f"{found[f'{key}_{k}']:>22.{3 if 'ssim' in key else 2}f}" for k in steps)
            )
    deltas = [
        "{:.2f} [{:.2f}, {:.2f}]".format(found[f"delta_psnr_{k}"], *found[f"delta_psnr_{k}_interval"]) for k in steps
    ]
    lines.append(f"{'delta PSNR, dB':<24}" + "".join(f"{delta:>22}" for delta in deltas))
    alone = {
        "action_shuffle_ratio": "action shuffle ratio", "action_nmi": "NMI of actions", "shuffled_nmi": "  shuffled",
        "token_accuracy": "token accuracy", "tokenizer_psnr": "tokenizer PSNR, dB",
        "codebook_perplexity": "codebook perplexity", "codebook_used": "codes used",
        "frechet_distance": "Frechet distance", "copy_frechet_distance": "  last frame",
    }  # fmt: skip
    return lines + [f"{name:<24}{found[key]:>22.4g}" for key, name in alone.items() if key in found]


def _measured(config: GenieDynamicsRun, settings: WorldEvaluation) -> GenieDynamicsRun:
    """The run's configuration with the data to measure on; other data is used whole."""
    if not settings.data:
        return config
    data = replace(config.data, where=settings.data, held_out="")
    return replace(config, data=data, probe=replace(config.probe, held_out=0.0))
