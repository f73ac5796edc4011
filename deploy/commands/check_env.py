"""`nexus check-env`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tyro.conf import Positional

from actors.config import EnvironmentConfig
from deploy.commands.numbers import Positive
from deploy.commands.parsing import parse
from deploy.exit_codes import FAILED


@dataclass(frozen=True, kw_only=True)
class CheckEnv:
    """Step an environment and report what is wrong with it, and where."""

    task: Positional[str]
    """As for `nexus train`: gym:ID, gym:module:ID or rllib:module:NAME (both import the module), dmc_domain_task,
    atari_game, crafter_reward, minigrid_NAME, memory_maze_SIZE, procgen_game, metaworld_task or envpool:ID. The task's
    own preset determines the rest."""
    steps: Positive = 1000
    """Number of steps."""
    observations: Literal["vectors", "pixels", "both"] = "vectors"
    """Observations to ask for, if the task has a choice (dm_control, MiniGrid, MuJoCo in envpool)."""
    env_config: str = EnvironmentConfig().env_config
    """JSON object for the creator of an rllib: environment, e.g. '{"size": 5}'."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(CheckEnv, arguments, prog="nexus check-env", example="nexus check-env gym:my_module:MyEnv-v0")
    from actors.closing import warned
    from actors.conformance import check_environment
    from actors.envs import make
    from deploy.wiring.config import RunConfig
    from deploy.wiring.presets import apply
    from replay.counted import counted

    config = apply(RunConfig(task=given.task)).environment
    environment = make(given.task, replace(config, observations=given.observations, env_config=given.env_config))
    try:
        for name, spaces in (("observation", environment.observation_space), ("action", environment.action_space)):
            for key, space in spaces.items():
                kind = counted(space.classes, "class", "classes") if space.discrete else f"{space.dtype}"
                print(f"{name} {key}: {kind}, shape {list(space.shape)}")
        findings = check_environment(environment, given.steps)
    finally:
        environment.close()
    for finding in findings:
        print(finding)
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors + warned()
    extent = "the check stopped there" if errors else f"in {counted(given.steps, 'step')}"
    print(f"{given.task}: {counted(errors, 'error')}, {counted(warnings, 'warning')}{';' * bool(errors)} {extent}")
    return FAILED if errors else 0
