"""Open-loop reports: how far the world model's predictions hold, on sequences drawn from replay for this alone.

Legend: B sequences, T time, C context steps.
"""

from dataclasses import dataclass

import numpy as np
import torch

from learner.batch import to_device
from learner.learner import Learner
from learner.sequence import CONTEXT
from replay.step import Rows
from world_models.dreamer.draws import mix_seed
from world_models.dreamer.open_loop import REWARD, open_loop
from world_models.space import Spaces

HORIZONS = (1, 5, 15)
"""Steps behind the context at which the error is reported, besides the last."""


@dataclass(frozen=True, kw_only=True)
class OpenLoopReport:
    """Truth and prediction per observation key and for `reward`, on the host."""

    updates: int
    context: int
    """C: steps the model was shown; it predicted the others."""
    space: Spaces
    truth: Rows
    """`[B T ...]`: images uint8, the others in their own units."""
    prediction: Rows
    """As `truth`."""
    error: Rows
    """`[B T]`: see `world_models.dreamer.open_loop.OpenLoop`."""
    still: Rows
    """`[B T]`: error of holding the last context step."""
    valid: np.ndarray
    """`[B T]` bool: False from the step at which a new episode begins behind the context."""

    def horizon(self, errors: np.ndarray) -> np.ndarray:
        """Mean of errors `[B T]` at each step behind the context `[T-C]`; NaN where no sequence is valid."""
        weight = self.valid[:, self.context :]
        total = (errors[:, self.context :] * weight).sum(0, dtype=np.float64)
        return np.divide(total, weight.sum(0), out=np.full(len(total), np.nan), where=weight.any(0))

    def metrics(self) -> dict[str, float]:
        """`report/openloop_<key>`: mean error; `.../step_N` and `.../last`: error N steps behind the context;
        `.../still`: mean error of holding the last context step."""
        weight, out = self.valid[:, self.context :], {}
        if not weight.any():
            return {}
        for key, errors in self.error.items():
            name, curve = f"report/openloop_{key}", self.horizon(errors)
            out[name] = float(errors[:, self.context :][weight].mean(dtype=np.float64))
            out[f"{name}/still"] = float(self.still[key][:, self.context :][weight].mean(dtype=np.float64))
            at = {f"step_{step}": step - 1 for step in HORIZONS if step <= len(curve)} | {"last": -1}
            out |= {f"{name}/{label}": float(curve[step]) for label, step in at.items() if np.isfinite(curve[step])}
        return out


def open_loop_report(learner: Learner) -> OpenLoopReport:
    """Draw a batch, show the model its first half, predict the other (as the official report does).

    Sequences and randomness depend on the replay content, the run's seed and the update count alone; nothing is written
    back and no state of learner, model or replay moves.
    """
    agent, config, updates = learner.agent, learner.config, learner.updates
    rng = np.random.default_rng([learner.seed, 2, updates])  # 1: training batches
    rows, _ = learner.store.sample(config.batch_size, CONTEXT + config.batch_length, rng, online=False)
    device = learner.step.device
    batch = to_device(rows, agent.observation_space, agent.action_space, agent.config.rssm.classes, device)
    generator = torch.Generator(device).manual_seed(mix_seed(mix_seed(learner.seed, updates), 2))
    size, time = batch.steps["is_first"].shape
    draw = torch.rand(size, time, agent.config.rssm.stoch, generator=generator, device=device)
    context = time // 2
    out = open_loop(agent, batch.steps, batch.start, batch.previous_action, context, draw)

    def host(tensors: dict[str, torch.Tensor]) -> Rows:
        return {key: value.cpu().numpy() for key, value in tensors.items()}

    prediction = host(out.prediction)
    for key, space in agent.observation_space.items():
        if space.is_image:
            prediction[key] = (prediction[key] * 255).round().clip(0, 255).astype(np.uint8)
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
