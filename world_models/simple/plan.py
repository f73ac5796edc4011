"""Planning with a simple world model, in its simplest form; `world_models/planning` has better planners."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from world_models.protocol import imagine_steps
from world_models.simple.world_model import SimpleWorldModel


@torch.inference_mode()
def plan_with_world_model(
    model: SimpleWorldModel, state: Any, horizon: int = 10, samples: int = 512
) -> Float[Tensor, " A"]:
    """The first action of the best of `samples` random action sequences from one state `[L]`: random shooting.

    Actions are uniform within the model's bounds; the best sequence has the greatest sum of predicted rewards. The
    draws are those of `torch.manual_seed`, or of `model.seed` if that was called. ValueError: more than one state.
    """
    state = torch.as_tensor(state, dtype=torch.float32, device=model.device)
    if state.shape != (model.config.latent_dim,):
        raise ValueError(
            f"state has the shape {tuple(state.shape)}, not ({model.config.latent_dim},): plan for one latent state at "
            "a time, model.encode(obs) of one observation; world_models.planning plans for many at once."
        )
    if horizon < 1 or samples < 1:
        raise ValueError(f"horizon={horizon} and samples={samples} must be at least 1.")
    unit = torch.rand(samples, horizon, model.config.action_dim, generator=model.generator, device=model.device)
    actions = model.low + (model.high - model.low) * unit  # [samples horizon A]
    start = state.expand(samples, -1)
    visited = [start, *imagine_steps(model, start, actions)[:-1]]
    rewards = model.rewards(torch.stack(visited, 1), actions).mean(0)  # [samples horizon]
    return actions[rewards.sum(1).argmax(), 0].clone()
