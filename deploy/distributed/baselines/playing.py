"""Fresh episodes of a baseline's task."""

from collections.abc import Callable, Sequence

from actors.batch_environment import Episode
from actors.evaluation import PARALLEL, Actions, Evaluation, run_episodes
from actors.trivial_policies import Policy
from deploy.wiring.baselines import BaselineConfig
from deploy.wiring.task import environment_maker, pool_maker


def play(
    config: BaselineConfig, policy: Policy, episodes: int, seed: int, *, actions: Actions = "sampled",
    watch: Callable[[Sequence[Episode], int], object] | None = None,
) -> Evaluation:  # fmt: skip
    """Play `episodes` episodes as the evaluations of a training run are played."""
    run = config.as_run
    makers = [environment_maker(run)] * min(episodes, PARALLEL)
    check = config.environment.check_steps
    return run_episodes(makers, policy, episodes, seed, actions=actions, pool=pool_maker(run), check=check, watch=watch)
