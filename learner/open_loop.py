"""Open-loop reports: how long the world model's predictions stay accurate, on sequences sampled for the report only."""

import numpy as np
import torch

from learner.batch import to_device
from learner.learner import Learner
from learner.open_loop_report import OpenLoopReport
from learner.sequence import CONTEXT
from replay.step import Rows
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.draws import mix_seed
from world_models.dreamer.open_loop import REWARD, open_loop


def report_open_loop(learner: Learner) -> OpenLoopReport:
    """Sample a batch, let the model observe its first half and predict the second (as in the official report).

    Sequences and randomness depend only on the replay content, the run's seed and the update count; nothing is written
    back and no state of learner, model or replay changes.
    """
    agent, config, updates = learner.agent, learner.config, learner.updates
    rng = np.random.default_rng([learner.seed, 2, updates])  # 1: training batches
    rows, _ = learner.store.sample(config.batch_size, CONTEXT + config.batch_length, rng, online=False)
    device = learner.step.device
    generator = torch.Generator(device).manual_seed(mix_seed(mix_seed(learner.seed, updates), 2))
    context = config.batch_length // 2
    return predicted(agent, rows, context, generator, updates)


def predicted(agent: Dreamer, rows: Rows, context: int, generator: torch.Generator, updates: int) -> OpenLoopReport:
    """The report of an agent after so many updates on sequences `[B 1+T ...]` as a store samples them: the first column
    only leads to the others, of which the model observes `context`. The generator is on the agent's device."""
    device = generator.device
    batch = to_device(rows, agent.observation_space, agent.action_space, agent.config.rssm.classes, device)
    size, time = batch.steps["is_first"].shape
    draw = torch.rand(size, time, agent.config.rssm.stoch, generator=generator, device=device)
    out = open_loop(agent, batch.steps, batch.start, batch.previous_action, context, draw)

    def host(tensors: dict[str, torch.Tensor]) -> Rows:
        return {key: value.cpu().numpy() for key, value in tensors.items()}

    prediction = host(out.prediction)
    for key, space in agent.observation_space.items():
        if space.is_image:
            prediction[key] = np.nan_to_num(prediction[key] * 255).round().clip(0, 255).astype(np.uint8)
    return OpenLoopReport(
        updates=updates,
        context=context,
        space=agent.observation_space,
        truth=host({key: batch.steps[key] for key in (*agent.observation_space, REWARD)}),
        prediction=prediction,
        error=host(out.error),
        still=host(out.still),
        valid=out.valid.cpu().numpy(),
    )
