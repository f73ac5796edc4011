"""Presets of `nexus pretrain`: published sizes with the published training, and a tiny one for a CPU."""

import difflib
from dataclasses import replace
from typing import Any

from deploy.wiring.pretraining import (
    DataConfig,
    GenieDynamicsRun,
    GenieLatentActionRun,
    GenieTokenizerRun,
    IJEPARun,
    LatentRun,
    PretrainConfig,
    VJEPA2ACRun,
    VJEPA2Run,
)
from learner.pretrain.config import ProbeConfig, TrainingConfig
from learner.schedules import Schedule
from world_models.genie import presets as genie
from world_models.jepa import presets
from world_models.latent import presets as latent_world

TINY, COOLDOWN, DIGITS, MOTION = "tiny", "cooldown", "digits", "motion"
WHOLE = DataConfig(scale=(1.0, 1.0), aspect=(1.0, 1.0))
"""Frames as they are."""
IMAGENET_EPOCH = 625
"""Updates in which 2048 images at a time show ImageNet once."""

IJEPA_TRAINING = TrainingConfig(
    batch_size=2048,
    updates=300 * IMAGENET_EPOCH,
    lr=Schedule(kind="cosine", start=2e-4, top=1e-3, end=1e-6, warmup=40 * IMAGENET_EPOCH),
    weight_decay=Schedule(kind="cosine", top=0.04, end=0.4),
    momentum=Schedule(kind="linear", top=0.996, end=1.0),
)
"""As published for ImageNet (arXiv 2301.08243, appendix A.1)."""

VJEPA2_TRAINING = TrainingConfig(
    batch_size=3072,
    updates=240_000,
    lr=Schedule(kind="warmup_constant", start=1e-4, top=5.25e-4, warmup=12_000),
    weight_decay=Schedule(kind="constant", top=0.04),
    momentum=Schedule(kind="constant", top=0.99925),
)
"""As published, before the cool-down (arXiv 2506.09985, section 2)."""

VJEPA2_COOLDOWN = replace(VJEPA2_TRAINING, updates=12_000, lr=Schedule(kind="linear", top=5.25e-4, end=1e-6))
"""As published: the learning rate of the constant phase falls to almost nothing on clips of 64 frames."""

VJEPA2_AC_TRAINING = TrainingConfig(
    batch_size=256,
    updates=94_500,
    lr=Schedule(kind="warmup_stable_decay", start=7.5e-5, top=4.25e-4, end=0.0, warmup=4500, anneal=4500),
    weight_decay=Schedule(kind="constant", top=0.04),
)
"""As published (arXiv 2506.09985, section 3)."""

LARGE_PROBE = ProbeConfig(every=5000, examples=4096, batch_size=64)


CPU_TRAINING = TrainingConfig(
    batch_size=64,
    updates=400,
    lr=Schedule(kind="cosine", start=1e-5, top=2e-3, end=1e-5, warmup=50),
    momentum=Schedule(kind="linear", top=0.99, end=1.0),
)
"""For minutes on a CPU."""
CPU_PROBE = ProbeConfig(every=200, examples=500, batch_size=50)
DIGITS_TRAINING = replace(CPU_TRAINING, batch_size=32, updates=2000)
"""Of the preset `digits`: small batches, since an update's cost, not its noise, limits what minutes can learn."""


def ijepa(size: str) -> IJEPARun:
    """ValueError names the sizes."""
    run = IJEPARun(model=presets.ijepa(size), data=DataConfig(aspect=(0.75, 4 / 3)))
    if size == DIGITS:
        return replace(run, training=DIGITS_TRAINING, data=WHOLE, probe=replace(CPU_PROBE, every=1000))
    if size == TINY:
        return run
    return replace(run, training=IJEPA_TRAINING, probe=LARGE_PROBE)


def vjepa2(size: str) -> VJEPA2Run:
    """A size, or `cooldown` for a model of any size that is given. ValueError names the sizes."""
    run = VJEPA2Run(model=presets.vjepa2(TINY if size == COOLDOWN else size), data=DataConfig(flip=True))
    if size == MOTION:
        constant = Schedule(kind="constant", top=0.99)
        training = replace(CPU_TRAINING, updates=800, lr=replace(CPU_TRAINING.lr, top=1e-3), momentum=constant)
        return replace(run, training=training, data=WHOLE, probe=CPU_PROBE)
    if size == TINY:
        training = TrainingConfig(
            batch_size=32, momentum=Schedule(kind="constant", top=0.996), lr=replace(run.training.lr, end=1e-5)
        )
        return replace(run, training=training, data=DataConfig(scale=(0.5, 1.0)))
    run = replace(run, training=VJEPA2_TRAINING, probe=LARGE_PROBE, data=replace(run.data, fps=4.0))
    if size == COOLDOWN:
        return replace(run, training=VJEPA2_COOLDOWN, model=replace(run.model, frames=64))
    return run


def vjepa2_ac(size: str, action: int, state: int) -> VJEPA2ACRun:
    """For actions and states of these widths. ValueError names the sizes."""
    data = DataConfig(scale=(1.0, 1.0))
    model = presets.vjepa2_ac(size, action, state)
    if size == TINY:
        training = TrainingConfig(
            batch_size=32, lr=Schedule(kind="warmup_stable_decay", start=1e-4, top=1e-3, warmup=200, anneal=600)
        )
        return VJEPA2ACRun(model=model, data=data, training=training)
    model = replace(model, action=action, state=state, state_update="hold" if (action, state) != (7, 7) else "pose")
    return VJEPA2ACRun(model=model, data=replace(data, fps=4.0), training=VJEPA2_AC_TRAINING, probe=LARGE_PROBE)


GENIE_TRAINING = TrainingConfig(
    batch_size=48,
    updates=300_000,
    lr=Schedule(kind="cosine", top=3e-4, end=0.0, warmup=10_000),
    weight_decay=Schedule(kind="constant", top=1e-4),
    beta2=0.9,
)
"""Of the tokenizer, as in the public reproduction on CoinRun."""

GENIE_LATER = replace(
    GENIE_TRAINING,
    batch_size=36,
    updates=200_000,
    lr=Schedule(kind="cosine", start=3e-6, top=3e-5, end=3e-6, warmup=1000),
)
"""Of its latent action model and dynamics."""

GENIE_TINY = TrainingConfig(
    batch_size=8,
    updates=800,
    lr=Schedule(kind="cosine", start=1e-5, top=1e-3, end=1e-5, warmup=50),
    weight_decay=Schedule(kind="constant", top=1e-4),
    beta2=0.99,
)
"""For minutes on a CPU."""

GENIE_DYNAMICS_TINY = replace(GENIE_TINY, lr=replace(GENIE_TINY.lr, top=2e-3), updates=1000)


def genie_tokenizer(size: str) -> GenieTokenizerRun:
    """ValueError names the sizes."""
    run = GenieTokenizerRun(model=genie.tokenizer(size), data=WHOLE, training=replace(GENIE_TINY, updates=1000))
    return run if size == TINY else replace(run, training=GENIE_TRAINING, probe=LARGE_PROBE)


def genie_latent_action(size: str) -> GenieLatentActionRun:
    """ValueError names the sizes."""
    run = GenieLatentActionRun(model=genie.latent_action(size), data=WHOLE, training=replace(GENIE_TINY, batch_size=16))
    return run if size == TINY else replace(run, training=GENIE_LATER, probe=LARGE_PROBE)


def genie_dynamics(size: str) -> GenieDynamicsRun:
    """ValueError names the sizes."""
    run = GenieDynamicsRun(model=genie.genie(size), data=WHOLE, training=GENIE_DYNAMICS_TINY)
    return run if size == TINY else replace(run, training=GENIE_LATER, probe=LARGE_PROBE)


LATENT_TRAINING = TrainingConfig(
    batch_size=128,
    updates=100_000,
    lr=Schedule(kind="cosine", start=5e-6, top=5e-5, end=0.0, warmup=1000),
    weight_decay=Schedule(kind="constant", top=1e-3),
)
"""For one GPU; neither published nor tuned: it has never been run."""


def latent(size: str, action: int) -> LatentRun:
    """For actions of this width. ValueError names the sizes."""
    run = LatentRun(model=latent_world.latent_world(size, action), data=WHOLE)
    if size == TINY:
        training = TrainingConfig(
            batch_size=32, updates=1000, weight_decay=Schedule(kind="constant", top=1e-3),
            lr=Schedule(kind="cosine", start=1e-4, top=1e-3, end=1e-5, warmup=50),
        )  # fmt: skip
        return replace(run, training=training)
    return replace(run, training=LATENT_TRAINING, probe=LARGE_PROBE)


SIZES = {
    "ijepa": (TINY, DIGITS, *presets.IJEPA_SIZES),
    "vjepa2": (TINY, MOTION, *presets.VJEPA2_SIZES, COOLDOWN),
    "vjepa2-ac": (TINY, "vitg"),
    "genie-tokenizer": genie.SIZES,
    "genie-latent-action": genie.SIZES,
    "genie-dynamics": genie.SIZES,
    "latent": latent_world.SIZES,
}


def preset(method: str, size: str, action: int = 2, state: int = 0) -> PretrainConfig:
    """The configuration of a size of one of `SIZES`. ValueError, with the nearest, for an unknown size."""
    if size not in SIZES[method]:
        near = difflib.get_close_matches(size, SIZES[method], n=2) or SIZES[method]
        raise ValueError(f"nexus pretrain {method} has no preset {size!r}; the nearest: {', '.join(near)}.")
    makers: dict[str, Any] = {
        "ijepa": ijepa, "vjepa2": vjepa2, "genie-tokenizer": genie_tokenizer,
        "genie-latent-action": genie_latent_action, "genie-dynamics": genie_dynamics,
    }  # fmt: skip
    if method == "latent":
        return latent(size, action)
    return vjepa2_ac(size, action, state) if method == "vjepa2-ac" else makers[method](size)
