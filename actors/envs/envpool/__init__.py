"""Everything that envpool simulates: `envpool:CartPole-v1` and any other of its ids, `procgen_coinrun`,
`metaworld_reach`."""

from actors.config import EnvironmentConfig
from actors.envs.envpool.environment import EnvpoolEnvironment
from actors.envs.envpool.pool import EnvpoolPool
from actors.envs.envpool.simulation import Simulation
from actors.envs.envpool.tasks import keeps_time_limit, target_of, task_names

__all__ = ["keeps_time_limit", "make", "make_pool", "task_names"]


def make(task: str, config: EnvironmentConfig) -> EnvpoolEnvironment:
    """One environment of a task. Raises ValueError if it is unknown, or if envpool cannot make it."""
    return EnvpoolEnvironment(Simulation(target_of(task, config), config, 1, 1), task, config.check_steps)


def make_pool(task: str, config: EnvironmentConfig, count: int, threads: int) -> EnvpoolPool:
    """`count` environments of a task, stepped by `threads` threads (0: one per core). Raises ValueError as `make`."""
    return EnvpoolPool(Simulation(target_of(task, config), config, count, threads), count)
