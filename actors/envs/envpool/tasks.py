"""Which environment of envpool a task is, and how it is made."""

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from actors.config import EnvironmentConfig
from actors.envs import unknown_task
from actors.envs.envpool.loading import envpool

GAMES = (
    "bigfish", "bossfight", "caveflyer", "chaser", "climber", "coinrun", "dodgeball", "fruitbot", "heist", "jumper",
    "leaper", "maze", "miner", "ninja", "plunder", "starpilot",
)  # fmt: skip
"""Procgen's, by their own names."""
REPEATING = ("envpool.atari", "envpool.vizdoom")
"""Parts of envpool whose `frame_skip` counts frames; MuJoCo's counts steps of the simulation within one."""
LIMITING = ("envpool.mujoco", "envpool.atari", "envpool.box2d", "envpool.classic_control")
"""Parts of envpool that end an episode after `max_episode_steps`. Procgen and others go on, and call whatever ends
later a truncation."""
SUCCESS = ("is_success", "success", "solved")
"""Names under which parts of envpool report success."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """An environment of envpool and the options it is made with."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@cache
def _targets() -> dict[str, Target]:
    targets = {f"envpool:{name}": Target(name=name) for name in envpool().list_all_envs()}
    # Hard, with all of Procgen's levels: DreamerV3's protocol.
    targets |= {f"procgen_{game}": Target(name=f"{game.capitalize()}Hard-v0") for game in GAMES}
    for name in envpool().list_all_envs():
        if name.startswith("MetaWorld/"):
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name.removeprefix("MetaWorld/")).lower()
            # One task alone, with its goal in the observation: the MT1 protocol; envpool hides it by default, as ML1.
            target = Target(name=name, options={"partially_observable": False})
            targets[f"metaworld_{words}"] = target
    return targets


def task_names() -> list[str]:
    """All tasks of the suites `envpool:`, `procgen_` and `metaworld_`."""
    return sorted(_targets())


def keeps_time_limit(task: str) -> bool:
    """Whether envpool ends the episodes of a task at a time limit that it is given."""
    target = _target(task)
    return target is None or part_of(target).startswith(LIMITING)


def part_of(target: Target) -> str:
    """The part of envpool that simulates a target, such as `envpool.procgen`."""
    return str(envpool().registration.registry.specs[target.name][0])


def _target(task: str) -> Target | None:
    return _targets().get(task) or _targets().get(f"{task}-v3")  # metaworld_reach


def target_of(task: str, config: EnvironmentConfig) -> Target:
    """The environment of a task, with the options that its configuration asks for. ValueError if it is unknown, or if
    envpool cannot do this."""
    target = _target(task)
    if target is None:
        same = [name for name in _targets() if name.startswith(re.split(r"(?<=[:_])", task)[0])]
        raise unknown_task(task, [name.removesuffix("-v3") if name.startswith("metaworld_") else name for name in same])
    options = dict(target.options)
    part = part_of(target)
    mujoco = part.startswith("envpool.mujoco.")
    if config.observations == "both" or config.observations == "pixels" and not mujoco:
        what = "both vectors and pixels" if config.observations == "both" else "other pixels than its own"
        raise ValueError(
            f"environment.observations={config.observations!r}: envpool has no {what} for {task!r}; use "
            f"{'pixels or vectors' if mujoco else 'vectors, which stands for its own observations'}."
        )
    if config.fast_rendering:
        raise ValueError(f"environment.fast_rendering is for dm_control (dmc_ tasks), not for {task!r}; omit it.")
    if config.observations == "pixels":
        height, width = config.image_size if any(config.image_size) else (64, 64)
        options |= {"from_pixels": True, "render_height": height, "render_width": width}
    elif mujoco:
        options |= {"render_height": 240, "render_width": 320}  # of videos
    if config.camera >= 0 and mujoco:
        options["render_camera_id"] = config.camera
    if part == "envpool.procgen":
        levels = {"num_levels": config.procgen.num_levels, "start_level": config.procgen.start_level}
        options |= {"channel_first": False} | levels
    elif config.procgen != EnvironmentConfig().procgen:
        raise ValueError(f"environment.procgen.* is for Procgen's games, not for {task!r}; leave it out.")
    return Target(name=target.name, options=options)
