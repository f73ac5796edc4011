"""Updates of a small agent by one of several processes: `python -m tests.learner.joint_updates RANK SIZE MEETING OUT`.

MEETING is a file that all of them name; the first writes what it has in the end to OUT, for each of SHARED.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from deploy.wiring.task import replay_schema
from learner.batch import DeviceBatch
from learner.config import LearnerConfig, OptimizerConfig
from learner.dreamer_step import DreamerStep
from learner.learner import Learner
from learner.processes import Processes
from replay.memory.memory_store import MemoryStore
from tests.world_models.small_agent import (
    CONFIG,
    CONTINUOUS,
    DISCRETE,
    IMAGE,
    VECTOR,
    build,
    random_batch,
    random_values,
)
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.anchor import Anchor
from world_models.dreamer.config import AnchorConfig, DreamerConfig, ExplorationConfig, NormalizeConfig
from world_models.dreamer.disagreement import Disagreement
from world_models.space import Spaces

ROWS, UPDATES = 8, 20
VECTORS: Spaces = {"vector": VECTOR}
ACTION = {"steer": CONTINUOUS, "button": DISCRETE}
# Heads that predict something: returns that are nothing but rounding errors would decide the policy's first updates,
# since the optimiser makes them as large as any other gradient.
MODEL = replace(
    CONFIG, reward=replace(CONFIG.reward, out_scale=1.0), value=replace(CONFIG.value, out_scale=1.0),
    policy=replace(CONFIG.policy, out_scale=1.0),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """An agent, and what is trained with it."""

    observation: Spaces
    model: DreamerConfig = MODEL
    explores: bool = False
    anchored: bool = False
    precision: str = "float32"


CASES = {
    "plain": Case(observation=VECTORS),
    "pixels, exploring, anchored": Case(observation=VECTORS | {"image": IMAGE}, explores=True, anchored=True),
    "deviations of the last steps": Case(
        observation=VECTORS,
        model=replace(MODEL, imagination_last=2, reward_heads=2, return_scale=NormalizeConfig(impl="meanstd")),
    ),
}
SHARED = [*((name, 1) for name in CASES), ("pixels, exploring, anchored", 2)]
"""Cases that processes learn together, each with so many parts in a process."""


def batches(agent: Dreamer) -> Iterator[DeviceBatch]:
    """The whole batches; some rows of every second one continue those of the one before."""
    for number in range(UPDATES):
        batch = random_batch(agent, rows=ROWS, seed=number)
        begins = batch.steps["is_first"].clone()
        begins[: number % ROWS] = True  # so that parts differ in how many steps count for disagreement
        yield batch._replace(
            steps=batch.steps | {"is_first": begins}, continues=torch.arange(ROWS) % 3 > (0 if number % 2 else ROWS)
        )


def learned(case: Case, processes: Processes, accumulate: int, seed: int = 0) -> dict[str, Tensor]:
    """Parameters, normalisers, and the metrics of every update. Only the first process has those of `seed` at first."""
    agent = build(case.observation, ACTION, case.model, seed=seed)
    torch.manual_seed(seed)
    ensemble = (
        Disagreement(ACTION, case.model, ExplorationConfig(disagreement=0.5, members=3)) if case.explores else None
    )
    anchor = Anchor(agent.encoder, agent.rssm, AnchorConfig(weight=0.5, every=7)) if case.anchored else None
    config = LearnerConfig(
        batch_size=ROWS, accumulate=accumulate, optimizer=OptimizerConfig(lr=1e-4, warmup=0), device="cpu",
        processes=processes.size, precision=case.precision,
    )  # fmt: skip
    step = DreamerStep(agent, config, 3, ensemble, anchor, processes)
    processes.align([*agent.state_dict().values(), *(ensemble.state_dict().values() if ensemble else ())])
    out: dict[str, Tensor] = {}
    metrics = []
    for batch in batches(agent):
        metrics.append(step(batch.part(processes.rank, processes.size)).metrics)
    for name, module in {"agent": agent, "ensemble": ensemble, "anchor": anchor}.items():
        out |= {f"{name}/{key}": value.clone() for key, value in (module.state_dict() if module else {}).items()}
    out |= {f"metrics/{key}": torch.stack([one[key] for one in metrics]) for key in metrics[0]}
    return out


def still_learner(processes: Processes, still: bool = True) -> Learner:
    """A learner on a replay that is the same in every process, which cuts two batches from each sequence."""
    schema, rng = replay_schema(VECTORS, ACTION, MODEL), np.random.default_rng(0)
    store = MemoryStore(schema, length=9, capacity=100, chunk_length=7, online=False)
    rows = {key: np.zeros((60, *field.shape), field.dtype) for key, field in schema.all.items()}
    store.append(3, 0, rows | random_values(rng, VECTORS | ACTION, 60))
    config = LearnerConfig(batch_size=ROWS, batch_length=4, consecutive=2, device="cpu", processes=processes.size)
    agent = build(VECTORS, ACTION, MODEL)
    return Learner(agent, config, store, seed=0, faults=Path("faults"), processes=processes, still=still)


def after_one_update(processes: Processes) -> Learner:
    """A learner with a batch still waiting that continues the last one."""
    made = still_learner(processes)
    made.update()
    return made


def main() -> None:
    """Learn each of SHARED."""
    rank, size, meeting, out = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    processes = Processes.meet(dist.FileStore(meeting, size), rank, size)
    found = {}
    for name, accumulate in SHARED:
        for key, value in learned(CASES[name], processes, accumulate, seed=rank).items():
            found[f"{name}/{accumulate}/{key}"] = value.contiguous()
    state = after_one_update(processes).state()
    if processes.first:
        found |= {f"state/{key}": torch.tensor(value) for key, value in state.items()}
        save_file(found, out)
    processes.close()


if __name__ == "__main__":
    main()
