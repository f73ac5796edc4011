"""A learner with real batches to profile: of a run's stored replay, or of a task's first steps."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from deploy.stored.sources import open_sources
from deploy.wiring.build import acting_part, build_actor, build_agent, build_anchor, build_exploration
from deploy.wiring.config import RunConfig, load_config
from deploy.wiring.fleet import Assignment, Fleet
from deploy.wiring.stores import inline_store
from deploy.wiring.task import FirstEnvironment, replay_schema
from learner.learner import Learner
from learner.sequence import sample_length, start_items
from replay.config import ReplayConfig
from replay.reading.episodes import pieces
from replay.sharding import ShardedStore
from world_models.dreamer.agent import Dreamer
from world_models.loading import load_world_model
from world_models.space import Spaces

SEQUENCES = 8
"""Batches' worth of sequences that replay holds, so that sampling has a choice."""


@contextmanager
def learner_of_run(run: Path) -> Iterator[tuple[RunConfig, Learner]]:
    """The newest agent of a run, and the newest steps of each stream of its replay. The run is not touched, and may be
    in progress. ValueError: it has no agent or too few steps."""
    config = _beside(load_config(run))
    agent = load_world_model(run).model
    if not isinstance(agent, Dreamer):
        raise ValueError(f"{run} holds no agent of nexus train; nexus profile takes a run of that, or a task.")
    with _learner(config, agent, agent.observation_space, agent.action_space) as (learner, store):
        _copy(run, store, config)
        if not learner.ready():
            raise ValueError(
                f"The replay of {run} gives {len(store)} sequences of {store.length} steps, fewer than the "
                f"{start_items(learner.config)} of a batch; let it train longer."
            )
        yield config, learner


@contextmanager
def learner_of_task(config: RunConfig) -> Iterator[tuple[RunConfig, Learner]]:
    """A new agent, and as many random steps of the task as a few batches need. ValueError: it cannot be made."""
    config = _beside(config)
    with closing(FirstEnvironment(config)) as first, ExitStack() as ending:
        observation, action = first.spaces
        agent = build_agent(config, observation, action)
        learner, store = ending.enter_context(_learner(config, agent, observation, action))
        acting = acting_part(config, observation, action, agent)
        environments = config.actor.environments
        every = Assignment(0, Fleet(environments, 1).share(0), random_steps=1 << 62)
        actor = build_actor(config, acting, store, every, make=first)
        ending.callback(actor.environments.close)
        while not learner.ready():
            actor.step()
        yield config, learner


def _beside(config: RunConfig) -> RunConfig:
    """As `config`, for one of its learner's processes, with a small replay in memory and nothing to wait for."""
    share = config.learner.batch_size // config.learner.processes
    # A replayed graph has no stages, and operators of kernels and of compiled steps are not counted.
    learner = replace(
        config.learner,
        batch_size=share,
        processes=1,
        start_items=SEQUENCES * share,
        cuda_graph=False,
        fused_scan=False,
        compile=False,
    )
    room = start_items(learner) + sample_length(learner) * config.actor.environments
    replay = ReplayConfig(capacity=2 * room, online=config.replay.online, selection=config.replay.selection)
    actor = replace(config.actor, autoscale=replace(config.actor.autoscale, on=False), isolation="auto")
    cluster = replace(config.cluster, address="")
    return replace(config, mode="inline", offline="", learner=learner, replay=replay, actor=actor, cluster=cluster)


@contextmanager
def _learner(
    config: RunConfig, agent: Dreamer, observation: Spaces, action: Spaces
) -> Iterator[tuple[Learner, ShardedStore]]:
    torch.set_num_threads(config.learner.threads or max(1, torch.get_num_threads() - 1))
    schema = replay_schema(observation, action, config.model)
    with TemporaryDirectory() as faults, closing(inline_store(schema, config, print)) as store:
        yield Learner(
            agent, config.learner, store, seed=config.seed, faults=Path(faults),
            prioritize=config.replay.selection.priority > 0, exploration=build_exploration(config, action),
            anchor=build_anchor(config, agent),
        ), store  # fmt: skip


def _copy(run: Path, store: ShardedStore, config: RunConfig) -> None:
    """The newest steps of each stream, as many as a fair share of what is needed."""
    with ExitStack() as stack:
        sources = [stack.enter_context(closing(one)) for one in open_sources(str(run), damaged=[])]
        streams = [(source, stream, steps) for source in sources for stream, steps in source.streams().items()]
        share = sample_length(config.learner) + start_items(config.learner) // max(1, len(streams)) + 1
        for source, stream, steps in streams:
            first = max(steps.start, steps.stop - share)
            for position, rows in pieces(source, stream, range(first, steps.stop)):
                store.append(stream, position - first, rows)
