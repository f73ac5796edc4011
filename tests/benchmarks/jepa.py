"""`python -m tests.benchmarks.jepa`: training steps of I-JEPA, V-JEPA 2 and V-JEPA 2-AC, and an iteration of planning.

Beside plain PyTorch programs of the same sizes (`jepa_plain.py`) and, where it is installed, Hugging Face's encoders in
such a program: it encodes everything and keeps the context. Programs take turns, so that a busy machine hits all alike;
figures are CPU seconds of the process, medians over rounds; ratios are medians of each round's. One thread.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from learner.adamw import AdamW
from tests.benchmarks import jepa_plain
from tests.benchmarks.machine import describe, median, seconds, versions
from world_models.jepa.config import EncoderConfig, IJEPAConfig, PredictorConfig, VJEPA2ACConfig, VJEPA2Config
from world_models.jepa.ijepa import IJEPA
from world_models.jepa.vjepa2 import VJEPA2
from world_models.jepa.vjepa2_ac import VJEPA2AC
from world_models.protocol import repeat_rows

SIZE, PATCH, GRID, WIDTH, DEPTH, HEADS = 64, 8, 8, 192, 6, 3
PREDICTOR = PredictorConfig(width=96, depth=3, heads=HEADS)
SAMPLES, HORIZON = 64, 2
LIMITS = {"ijepa": 1.0, "vjepa2": 1.0, "vjepa2_ac": 0.7, "cem": 0.25}
"""Our time is to be at most this much of the plain program's."""
Programs = Mapping[str, Callable[[], object]]


def encoder(tubelet: int) -> EncoderConfig:
    return EncoderConfig(size=SIZE, patch=PATCH, tubelet=tubelet, width=WIDTH, depth=DEPTH, heads=HEADS)


def trained(model: nn.Module, losses: Callable[[], dict[str, Tensor]]) -> Callable[[], None]:
    """One update as the trainer makes it."""
    optimizer = AdamW((name, p) for name, p in model.named_parameters() if p.requires_grad)

    def step() -> None:
        optimizer.zero_grad()
        torch.stack([loss.mean() for loss in losses().values()]).sum().backward()
        optimizer.step(1e-4, 0.04)
        if isinstance(model, (IJEPA, VJEPA2)):
            model.update_target(0.999)

    return step


class Theirs(nn.Module):
    """An encoder of Hugging Face's with the plain program's calls."""

    def __init__(self, model: Any, video: bool):
        super().__init__()
        self.model, self.video = model, video

    def forward(self, x: Tensor) -> Tensor:
        if self.video:
            return self.model(pixel_values_videos=x.transpose(1, 2)).last_hidden_state
        return self.model(pixel_values=x).last_hidden_state


def huggingface(video: bool) -> nn.Module | None:
    if find_spec("transformers") is None:
        return None
    transformers: Any = import_module("transformers")
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "patch_size": PATCH}
    if video:
        config = transformers.VJEPA2Config(**sizes, crop_size=SIZE, frames_per_clip=8)
        return Theirs(transformers.VJEPA2Model(config).encoder, video)
    config = transformers.IJepaConfig(**sizes, image_size=SIZE, intermediate_size=4 * WIDTH, layer_norm_eps=1e-6)
    return Theirs(transformers.IJepaModel(config, add_pooling_layer=False), video)


def pretraining(video: bool) -> dict[str, jepa_plain.Pretraining]:
    """The plain program, and the same with Hugging Face's encoders."""
    encoders = {"plain": jepa_plain.Encoder(GRID, PATCH, WIDTH, DEPTH, HEADS, video)}
    predictors = (
        jepa_plain.Predictor(GRID, WIDTH, PREDICTOR.width, PREDICTOR.depth, PREDICTOR.heads, video) for _ in range(2)
    )
    programs = {"plain": jepa_plain.Pretraining(encoders["plain"], next(predictors), masked_after=False)}
    if (theirs := huggingface(video)) is not None:
        programs["huggingface"] = jepa_plain.Pretraining(theirs, next(predictors), masked_after=True)
    return programs


def of_ijepa() -> Programs:
    """Batch 32, one context and four targets."""
    model = IJEPA(IJEPAConfig(encoder=encoder(0), predictor=PREDICTOR))
    images, masks = torch.randn(32, 3, SIZE, SIZE), model.masks()(32, torch.Generator().manual_seed(0))
    others = pretraining(video=False)
    return {"ours": trained(model, lambda: model(images, *masks))} | {
        name: partial(program.image_step, images, *masks) for name, program in others.items()
    }


def of_vjepa2() -> Programs:
    """Batch 8, 8 frames, two kinds of masks."""
    model = VJEPA2(VJEPA2Config(encoder=encoder(2), predictor=PREDICTOR, frames=8))
    rng = torch.Generator().manual_seed(0)
    clips, masks = torch.randn(8, 3, 8, SIZE, SIZE), [sample(8, rng) for sample in model.masks()]
    others = pretraining(video=True)
    return {"ours": trained(model, lambda: model([clips], [masks]))} | {
        name: partial(program.clip_step, clips, masks) for name, program in others.items()
    }


def action_conditioned() -> tuple[VJEPA2AC, jepa_plain.ActionConditioned]:
    predictor = PredictorConfig(width=WIDTH, depth=DEPTH, heads=HEADS, mask_tokens=0)
    ours = VJEPA2AC(VJEPA2ACConfig(encoder=encoder(2), predictor=predictor, state_update="add"))
    frozen = jepa_plain.Encoder(GRID, PATCH, WIDTH, DEPTH, HEADS, video=True)
    return ours, jepa_plain.ActionConditioned(frozen, WIDTH, WIDTH, DEPTH, HEADS)


def of_vjepa2_ac() -> Programs:
    """Batch 4, 8 frames, the encoder included."""
    ours, plain = action_conditioned()
    clips, actions, states = torch.randn(4, 3, 8, SIZE, SIZE), torch.randn(4, 7, 7), torch.randn(4, 8, 7)
    return {
        "ours": trained(ours, lambda: ours(clips, actions, states)),
        "plain": partial(plain.step, clips, actions, states),
    }


def of_cem() -> Programs:
    """The costs of 64 plans of two steps from one frame."""
    ours, plain = action_conditioned()
    frames, state, actions = torch.randn(2, 3, SIZE, SIZE), torch.randn(1, 7), torch.randn(SAMPLES, HORIZON, 7)

    @torch.inference_mode()
    def cost() -> Tensor:
        latents = ours.encode(frames[:, :, None])
        start = repeat_rows(ours.begin(latents[:1], None, state[:, None]), SAMPLES)
        return (ours.imagine(start, actions)[:, -1] - latents[1:, 0]).abs().mean((1, 2))

    return {"ours": cost, "plain": partial(plain.energy, frames[0], frames[1], state, actions)}


CASES = {"ijepa": of_ijepa, "vjepa2": of_vjepa2, "vjepa2_ac": of_vjepa2_ac, "cem": of_cem}


def measure(programs: Programs, rounds: int) -> dict[str, Any]:
    """Seconds of each program, and ours relative to each of the others."""
    for run in programs.values():
        run()
    cpu = torch.device("cpu")
    taken = [{name: seconds(run, cpu)[0] for name, run in programs.items()} for _ in range(rounds)]
    others = [name for name in programs if name != "ours"]
    return {
        "seconds": {name: median([row[name] for row in taken]) for name in programs},
        "ratio": {name: median([row["ours"] / row[name] for row in taken]) for name in others},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.jepa", description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), help="what to measure")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each program, behind one that warms up")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cases = {name: measure(CASES[name](), options.rounds) | {"limit": LIMITS[name]} for name in options.cases}
    over = [name for name, case in cases.items() if case["ratio"]["plain"] > case["limit"]]
    if not options.json:
        for name, case in cases.items():
            times = ", ".join(f"{program} {value:.3f} s" for program, value in case["seconds"].items())
            ratios = ", ".join(f"{value:.2f} of {program}" for program, value in case["ratio"].items())
            print(f"{name:10} {times}; ours {ratios} (at most {case['limit']:.2f} of plain)")
    report = {
        "name": "jepa", "value": max(case["ratio"]["plain"] / case["limit"] for case in cases.values()),
        "unit": "largest time relative to its limit", "device": describe(torch.device("cpu")), "versions": versions(),
        "threads": 1, "rounds": options.rounds, "cases": cases, "over_limit": over,
    }  # fmt: skip
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
