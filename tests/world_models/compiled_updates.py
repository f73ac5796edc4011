"""Updates with compiled imagined steps beside plain ones: `python -m tests.world_models.compiled_updates` prints JSON.

A program of its own, since the checks of shapes that tests have cannot be compiled.
"""

import json

import torch

from learner.config import LearnerConfig, OptimizerConfig
from learner.dreamer_step import DreamerStep
from tests.world_models.small_agent import CONTINUOUS, DISCRETE, VECTOR, build, random_batch

ROWS, LENGTH, UPDATES = 2, 4, 3


def step(compiled: bool) -> DreamerStep:
    config = LearnerConfig(
        batch_size=ROWS, batch_length=LENGTH, device="cpu", compile=compiled, optimizer=OptimizerConfig(warmup=0)
    )
    return DreamerStep(build({"vector": VECTOR}, {"steer": CONTINUOUS, "button": DISCRETE}), config, 3)


def main() -> None:
    """Compare the losses of a few updates, and count the graphs that were compiled for them."""
    torch.set_num_threads(1)
    plain, other = step(False), step(True)
    torch._dynamo.config.error_on_recompile = True
    apart = 0.0
    for number in range(UPDATES):
        batch = random_batch(plain.agent, rows=ROWS, time=LENGTH, seed=number)
        one, two = (each(batch).metrics["loss/total"] for each in (plain, other))
        apart = max(apart, float((one - two).abs() / one.abs()))
    more = random_batch(plain.agent, rows=2 * ROWS, time=LENGTH)  # of another size, so plain in both
    other(more)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    print(
        json.dumps(
            {
                "remarks": other.remarks,
                "apart": apart,
                "taken": getattr(other.agent.rssm.compiled_steps, "taken", 0),
                "graphs": graphs,
            }
        )
    )


if __name__ == "__main__":
    main()
