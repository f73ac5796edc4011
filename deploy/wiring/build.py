"""Builds the agent and the actors of a run."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from actors.actor import Actor
from actors.batch_environment import BatchEnvironment
from actors.environment import Environment
from actors.policies.planner_policy import PlannerPolicy
from actors.pool_environment import PoolEnvironment
from actors.vector import VectorEnvironment
from deploy.wiring.config import RunConfig
from deploy.wiring.fleet import Assignment
from deploy.wiring.task import actor_environment_maker, pool_maker
from deploy.wiring.transfer import read_initial
from learner.learner import Learner
from learner.processes import Processes
from replay.keys import stream_id
from replay.store import Store
from world_models.dreamer.acting import ActingModel
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.anchor import Anchor
from world_models.dreamer.disagreement import Disagreement
from world_models.dreamer.planning import DreamerPlanning
from world_models.dreamer.policy import DreamerPolicy
from world_models.families import family_of
from world_models.planning.costs import RewardCost
from world_models.planning.planners import make_planner
from world_models.space import Spaces

EPISODE_BITS = 20  # episodes of one environment in one life


def build_agent(config: RunConfig, observation: Spaces, action: Spaces) -> Dreamer:
    """A new agent whose initial parameters depend only on the run's seed."""
    torch.manual_seed(config.seed)
    agent: Dreamer = family_of(config.model).build(observation, action, config.model)
    return agent


@torch.no_grad()
def load_initial(config: RunConfig, agent: Dreamer, logdir: Path) -> None:
    """Give `agent` the parameters that its run in `logdir` starts with, if the configuration names any. ValueError: the
    copy there is damaged."""
    if config.init_from:
        own = agent.state_dict()
        for name, value in read_initial(logdir).items():
            own[name].copy_(torch.tensor(value))


def build_exploration(config: RunConfig, action: Spaces) -> Disagreement | None:
    """A new ensemble whose initial parameters depend only on the run's seed; None if the run does not explore by
    disagreement."""
    if not config.exploration.disagreement:
        return None
    torch.manual_seed(config.seed)
    return Disagreement(action, config.model, config.exploration)


def build_anchor(config: RunConfig, agent: Dreamer) -> Anchor | None:
    """A copy of the agent's world model as it is now; None if leaving it is not penalised."""
    return Anchor(agent.encoder, agent.rssm, config.anchor) if config.anchor.weight else None


def build_learner(
    config: RunConfig, agent: Dreamer, store: Store, logdir: Path, processes: Processes | None = None
) -> Learner:  # fmt: skip
    """A learner of `agent`, with what is trained beside it; of several `processes`, that of this one."""
    # Each process has an index of its own of Redis servers, in whatever order it has met their streams.
    still = bool(config.offline) and config.replay.kind != "redis" and not config.replay.selection.priority
    return Learner(
        agent, config.learner, store, seed=config.seed, faults=logdir / "faults",
        prioritize=config.replay.selection.priority > 0, exploration=build_exploration(config, agent.action_space),
        anchor=build_anchor(config, agent), processes=processes, still=still,
    )  # fmt: skip


def acting_part(
    config: RunConfig, observation: Spaces, action: Spaces, agent: Dreamer | None = None
) -> ActingModel | Dreamer:
    """What snapshots carry: encoder, RSSM and policy, for planners the whole agent; those of `agent`, or new ones."""
    if config.actor.plans:
        return agent or build_agent(config, observation, action)
    return ActingModel.sharing(agent) if agent else ActingModel(observation, action, config.model)


def build_policy(
    config: RunConfig, model: ActingModel | Dreamer, seed: int, precision: str = "float32"
) -> DreamerPolicy | PlannerPolicy:
    """The policy that acts with an `acting_part`."""
    if isinstance(model, ActingModel):
        return DreamerPolicy(model, seed=seed, precision=precision)
    options = {"horizon": config.actor.planner_horizon, "samples": config.actor.planner_samples}
    planner = make_planner(config.actor.planner, {name: value for name, value in options.items() if value})
    planned = DreamerPlanning(model)
    return PlannerPolicy(planned, planner, RewardCost(), seed=seed, module=model, latents_of=planned.latents)


def build_actor(
    config: RunConfig, model: ActingModel | Dreamer, store: Store, assignment: Assignment, worker: int = 0,
    make: Callable[[], Environment] | None = None,
) -> Actor:  # fmt: skip
    """The actor of a worker. Each life (incarnation) has its own streams, episodes and seeds. `make` makes an
    environment, unless they come as a pool."""
    incarnation, (indices, slots), random_steps = assignment
    tolerant = 0 if config.mode == "inline" else config.actor.quarantine_after  # inline: an error ends the run
    environments: BatchEnvironment
    # One thread in an actor of Ray: it may have only a part of a core.
    if pool := pool_maker(config, threads=0 if config.mode == "inline" else 1):
        check = config.environment.check_steps
        environments = PoolEnvironment(partial(pool, len(indices)), config.seed, indices, tolerant, check)
    else:
        makers = [make or actor_environment_maker(config)] * len(indices)
        environments = VectorEnvironment(makers, config.seed, indices, tolerant)
    environments.episodes = [(incarnation << EPISODE_BITS) - 1] * len(indices)  # which determine the seeds
    seed = _seed(config, worker, incarnation)
    return Actor(
        environments,
        build_policy(config, model, seed + 1, config.actor.precision),
        store,
        [stream_id(worker, incarnation, slot) for slot in slots],
        seed=seed,
        random_steps=random_steps,
        flush_steps=1 if config.mode == "inline" else config.actor.flush_steps,
        flush_seconds=config.actor.flush_seconds,
    )


def _seed(config: RunConfig, worker: int, incarnation: int) -> int:
    """The seed of a worker's own draws, different for every life of every worker."""
    if config.mode == "inline":
        return config.seed * 100_003 + incarnation * 1009  # runs of earlier versions go on exactly
    digest = hashlib.sha256(f"{config.seed}/{worker}/{incarnation}".encode()).digest()
    return int.from_bytes(digest[:7], "little")
