"""Presets: functions from a configuration to a configuration. Sizes and task presets use the field's names."""

import difflib
from collections.abc import Callable
from dataclasses import replace

from actors.config import AtariConfig
from deploy.wiring.config import EvaluationConfig, RunConfig
from deploy.wiring.fields import as_options
from world_models.dataclass_json import differences, to_json
from world_models.dreamer.config import DreamerConfig, sized

Preset = Callable[[RunConfig], RunConfig]


def gym(config: RunConfig) -> RunConfig:
    """Any Gymnasium environment, even on a laptop: size1m, train ratio 128. Raise --size for hard tasks."""
    return replace(
        config,
        learner=replace(config.learner, train_ratio=128.0),
        replay=replace(config.replay, capacity=1_000_000),
        model=sized("size1m", config.model),
        evaluation=EvaluationConfig(every=1000, episodes=10),
    )


def dmc_proprio(config: RunConfig) -> RunConfig:
    """DeepMind Control from vectors: size1m, train ratio 1024 (the published curves: 512 with action repeat 2)."""
    return replace(
        config,
        frames=1_100_000,
        learner=replace(config.learner, train_ratio=1024.0),
        model=sized("size1m", config.model),
    )


def dmc_vision(config: RunConfig) -> RunConfig:
    """DeepMind Control from 64x64 pixels."""
    return replace(
        config,
        frames=1_100_000,
        environment=replace(config.environment, observations="pixels"),
        learner=replace(config.learner, train_ratio=256.0),
    )


def crafter(config: RunConfig) -> RunConfig:
    """Crafter from 64x64 pixels, as published: one environment, train ratio 512, 1.1M frames."""
    return replace(
        config,
        frames=1_100_000,
        actor=replace(config.actor, environments=1),
        learner=replace(config.learner, train_ratio=512.0),
    )


def memory_maze(config: RunConfig) -> RunConfig:
    """Memory Maze from 64x64 pixels, train ratio 256; results are published for 100M frames, ten times this budget."""
    return replace(config, frames=10_000_000, learner=replace(config.learner, train_ratio=256.0))


def minigrid(config: RunConfig) -> RunConfig:
    """MiniGrid and BabyAI from the cells in view as classes: the settings of `gym`."""
    return gym(config)


def atari100k(config: RunConfig) -> RunConfig:
    """Atari after 400k frames: 64x64 in colour, needed actions, no sticky ones, train ratio 256, one environment."""
    environment = replace(config.environment, action_repeat=4, image_size=(64, 64), atari=AtariConfig())
    return replace(
        config,
        frames=400_000,
        environment=environment,
        actor=replace(config.actor, environments=1),
        learner=replace(config.learner, train_ratio=256.0),
    )


def atari200m(config: RunConfig) -> RunConfig:
    """Atari after 200M frames: 96x96 in gray, all 18 actions, which stick at a rate of 0.25, train ratio 32."""
    atari = AtariConfig(sticky=0.25, actions="full", color="gray")
    return replace(
        config,
        frames=204_000_000,
        environment=replace(config.environment, action_repeat=4, image_size=(96, 96), atari=atari),
        learner=replace(config.learner, train_ratio=32.0),
    )


def procgen(config: RunConfig) -> RunConfig:
    """Procgen, hard levels without end, 110M frames. 64x64 pixels: the published 96x96 are scaled from a rendering for
    people that envpool lacks."""
    return replace(config, frames=110_000_000, learner=replace(config.learner, train_ratio=64.0))


def metaworld(config: RunConfig) -> RunConfig:
    """One task of Meta-World from vectors, with the settings of dmc_proprio: DreamerV3 has published none for it."""
    return dmc_proprio(config)


def quick(config: RunConfig) -> RunConfig:
    """A small network and short batches for two CPU cores: CartPole in minutes, with its own rate and warm-up."""
    model = DreamerConfig()
    rssm = replace(model.rssm, deter=128, hidden=64, stoch=16, classes=8, blocks=1)
    model = replace(
        model,
        rssm=rssm,
        encoder=replace(model.encoder, depth=4, layers=2, units=64),
        decoder=replace(model.decoder, depth=4, blocks=1, layers=2, units=64),
        reward=replace(model.reward, layers=2, units=64, bins=63),
        continuation=replace(model.continuation, layers=2, units=64),
        policy=replace(model.policy, layers=2, units=64),
        value=replace(model.value, layers=2, units=64, bins=63),
    )
    optimizer = replace(config.learner.optimizer, lr=1e-3, warmup=100)
    held = HELD.get(config.task, 1)
    environment = replace(config.environment, action_repeat=held)
    return replace(
        config,
        frames=200_000,
        environment=atari100k(config).environment if config.task.startswith("atari_") else environment,
        actor=replace(config.actor, actors=2, environments=8, random_steps=500),
        replay=replace(config.replay, capacity=200_000),
        learner=replace(
            config.learner, batch_size=8, batch_length=16, train_ratio=16.0 * held, publish_every=5, optimizer=optimizer
        ),
        model=model,
        evaluation=EvaluationConfig(every=250, episodes=20, stop_score=SOLVED.get(config.task, 0.0)),
        log_every=50,
        report_every=1000,
        checkpoint_every=500,
    )


HELD = {"gym:Acrobot-v1": 4, "gym:LunarLander-v3": 4}
"""Frames for which `quick` holds each action. Held, random actions swing Acrobot up in 45 % of episodes, else in 8 %,
and without a success there is nothing to learn from. LunarLander hovers until its time limit unless they are held: 16
imagined steps must reach from the air to the ground. As many updates follow a frame."""

SOLVED = {"gym:CartPole-v1": 490.0}
"""Mean evaluation score at which `quick` stops; the maximum is 500, Gymnasium's own threshold 475."""

PRESETS: dict[str, Preset] = {
    "gym": gym,
    "dmc_proprio": dmc_proprio,
    "dmc_vision": dmc_vision,
    "crafter": crafter,
    "memory_maze": memory_maze,
    "minigrid": minigrid,
    "atari100k": atari100k,
    "atari200m": atari200m,
    "procgen": procgen,
    "metaworld": metaworld,
    "quick": quick,
}

TASK_PRESETS = (
    ("gym:", "gym"),
    ("rllib:", "gym"),
    ("genie:", "gym"),
    ("dmc_", "dmc_proprio"),
    ("atari_", "atari100k"),
    ("crafter_", "crafter"),
    ("memory_maze_", "memory_maze"),
    ("minigrid_", "minigrid"),
    ("envpool:", "gym"),
    ("procgen_", "procgen"),
    ("metaworld_", "metaworld"),
)
"""Default preset for tasks with this prefix."""


def apply(config: RunConfig, preset: str = "", size: str = "") -> RunConfig:
    """`config` with a preset (by default the task's own) and a size applied. Raises ValueError, with the nearest names,
    for an unknown one."""
    preset = preset or next((name for prefix, name in TASK_PRESETS if config.task.startswith(prefix)), "")
    if preset:
        if preset not in PRESETS:
            near = difflib.get_close_matches(preset, PRESETS, n=3)
            raise ValueError(
                f"Unknown preset {preset!r}; nearest: {', '.join(near) or 'none'}. All: {', '.join(PRESETS)}."
            )
        config = PRESETS[preset](config)
    return replace(config, model=sized(size, config.model)) if size else config


def options_for(config: RunConfig) -> list[str]:
    """Options of `nexus train TASK` that reproduce the networks, batches, exploration and environments of `config`: the
    nearest preset, and what differs from it."""
    wanted = {part: to_json(config)[part] for part in ("environment", "learner", "model", "exploration", "anchor")}

    def left(preset: str) -> dict[str, tuple[object, object]]:
        given = to_json(apply(RunConfig(task=config.task), preset))
        return differences({part: given[part] for part in wanted}, wanted)

    best = min(["", *PRESETS], key=lambda preset: len(left(preset)))
    options = ["--preset", best] if best else []
    return options + as_options({name: value for name, (_, value) in left(best).items()})
