"""All tasks by name. `make("dmc_walker_walk")` or `make("gym:CartPole-v1")` returns a ready Environment."""

import difflib
import importlib
import importlib.util
from dataclasses import dataclass

from actors.config import EnvironmentConfig
from actors.environment import Environment, require_names
from actors.envs.stacked_pool import StackedPool
from actors.envs.wrappers import FrameStack, NormalizeActions, TimeLimit
from actors.pool import Pool


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Tasks that share a prefix and an adapter; the adapter is imported only when one of them is requested."""

    prefix: str
    module: str
    package: str
    example: str
    extra: str = ""
    """The extra of nexus-worlds that installs the package; empty if it has none."""
    pool: bool = False
    """Whether its back end steps environments in batches; the module then has a `make_pool` too."""


SUITES = (
    Suite(prefix="gym:", module="actors.envs.gymnasium", package="gymnasium", example="gym:CartPole-v1"),
    Suite(prefix="rllib:", module="actors.envs.rllib", package="ray", example="rllib:my_module:my_env"),
    Suite(prefix="genie:", module="actors.envs.generated_world", package="torch", example="genie:worlds/blocks"),
    Suite(prefix="dmc_", module="actors.envs.dm_control", package="dm_control", example="dmc_walker_walk"),
    Suite(
        prefix="crafter_", module="actors.envs.crafter", package="crafter", example="crafter_reward", extra="crafter"
    ),
    Suite(
        prefix="minigrid_", module="actors.envs.minigrid", package="minigrid", example="minigrid_empty_8x8",
        extra="minigrid",
    ),
    Suite(
        prefix="memory_maze_", module="actors.envs.memory_maze", package="memory_maze", example="memory_maze_9x9",
        extra="memory_maze",
    ),
    Suite(
        prefix="atari_", module="actors.envs.atari.environment", package="ale_py", example="atari_pong", extra="atari"
    ),
    *(
        Suite(prefix=prefix, module="actors.envs.envpool", package="envpool", example=example, pool=True)
        for prefix, example in (
            ("envpool:", "envpool:Ant-v5"),
            ("procgen_", "procgen_coinrun"),
            ("metaworld_", "metaworld_reach"),
        )
    ),
)  # fmt: skip


def task_names() -> list[str]:
    """All tasks of the installed suites."""
    names: set[str] = set()
    for suite in SUITES:
        if importlib.util.find_spec(suite.package):
            names.update(importlib.import_module(suite.module).task_names())
    return sorted(names)


def own_module(task: str) -> str:
    """The user's module that `gym:MODULE:ID` or `rllib:MODULE:NAME` imports; empty for any other task."""
    suite, _, rest = task.partition(":")
    return rest.rpartition(":")[0] if suite in ("gym", "rllib") else ""


def make(task: str, config: EnvironmentConfig | None = None) -> Environment:
    """The environment of a task, with the wrappers that its configuration asks for.

    Raises ValueError, naming the nearest tasks, if there is no such task.
    """
    config = config or EnvironmentConfig()
    suite = suite_of(task)
    if suite is None:
        raise unknown_task(task, task_names())
    _require_package(suite, task)
    if config.env_config != EnvironmentConfig().env_config and suite.prefix != "rllib:":
        raise ValueError(
            f"environment.env_config={config.env_config} reaches only rllib: tasks, not {task!r}; leave it out. "
            "Arguments of a Gymnasium environment go into gymnasium.register(..., kwargs={...})."
        )
    if config.atari != EnvironmentConfig().atari and suite.prefix != "atari_":
        raise ValueError(f"environment.atari.* is for atari_ tasks, not for {task!r}; leave it out.")
    if config.procgen != EnvironmentConfig().procgen and suite.module != "actors.envs.envpool":
        raise ValueError(f"environment.procgen.* is for procgen_ tasks, not for {task!r}; leave it out.")
    environment: Environment = importlib.import_module(suite.module).make(task, config)
    require_names(environment.observation_space, environment.action_space, task)
    environment = NormalizeActions(environment)
    if config.time_limit:
        environment = TimeLimit(environment, config.time_limit)
    if config.frame_stack > 1:
        environment = FrameStack(environment, config.frame_stack)
    return environment


def steps_in_batches(task: str, config: EnvironmentConfig) -> bool:
    """Whether the back end of a task steps its environments itself and keeps the time limit that the configuration
    adds, so that there is a pool for it."""
    suite = suite_of(task)
    if suite is None or not suite.pool or not config.time_limit:
        return suite is not None and suite.pool
    _require_package(suite, task)
    return bool(importlib.import_module(suite.module).keeps_time_limit(task))


def make_pool(task: str, config: EnvironmentConfig, count: int, threads: int = 0) -> Pool:
    """A pool of `count` environments of a task that steps in batches, with `threads` threads (0: one per core, and no
    more than environments). Raises ValueError as `make` does."""
    suite = suite_of(task)
    if suite is None:
        raise unknown_task(task, task_names())
    if not suite.pool:
        pools = ", ".join(suite.prefix for suite in SUITES if suite.pool)
        raise ValueError(f"Task {task!r} has no back end that steps in batches; those with the prefixes {pools} have.")
    _require_package(suite, task)
    pool: Pool = importlib.import_module(suite.module).make_pool(task, config, count, threads)
    require_names(pool.observation_space, pool.action_space, task)
    return StackedPool(pool, config.frame_stack) if config.frame_stack > 1 else pool


def suite_of(task: str) -> Suite | None:
    """The suite of a task's prefix."""
    return next((suite for suite in SUITES if task.startswith(suite.prefix)), None)


def _require_package(suite: Suite, task: str) -> None:
    if not importlib.util.find_spec(suite.package):
        install = f'"nexus-worlds[{suite.extra}]"' if suite.extra else suite.package
        install += " (there are builds for Linux only)" if suite.package == "envpool" else ""
        raise ValueError(
            f"Task {task!r} needs the package {suite.package}, which is not installed: pip install {install}"
        )


def unknown_task(task: str, names: list[str]) -> ValueError:
    """The error for an unknown task: its name, the nearest names, and how names are formed."""
    near = difflib.get_close_matches(task, names, n=4, cutoff=0.5)
    nearest = f" The nearest are {', '.join(near)}." if near else ""
    examples = ", ".join(suite.example for suite in SUITES)
    return ValueError(
        f"Unknown task {task!r}.{nearest} Tasks are named like {examples}, or gym:my_module:MyEnv-v0 for your own."
    )
