"""Open-loop prediction: observe the first steps of a sequence, then predict the rest from the recorded actions alone.

Legend: B batch, T time, C context steps, S latents; `*shape` one element of a key.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from world_models.distributions import Categorical, SquaredError, symexp, symlog
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.decoder import Reconstruction
from world_models.dreamer.heads import feature
from world_models.dreamer.rssm import State
from world_models.layers import concat_dict

REWARD = "reward"


class OpenLoop(NamedTuple):
    """Per observation key and for `reward`; the first C steps are reconstructed, the others predicted."""

    prediction: dict[str, Tensor]
    """`[B T *shape]`: images in [0, 1], vectors and reward in their own units, integers as the most likely class."""
    error: dict[str, Float[Tensor, "B T"]]
    """Mean absolute error over the elements: images in [0, 1], vectors in symlog space if the decoder uses it; for
    integers the fraction that is wrong."""
    still: dict[str, Float[Tensor, "B T"]]
    """The same error for a forecast that repeats the last context step."""
    valid: Bool[Tensor, "B T"]
    """False from the step at which a new episode begins after the context: no action leads there."""
    deter: Float[Tensor, "B T D"]
    stoch: Float[Tensor, "B T S K"]


@torch.no_grad()
def open_loop(
    agent: Dreamer,
    batch: dict[str, Tensor],
    start: State,
    previous_action: dict[str, Tensor],
    context: int,
    draw: Shaped[Tensor, "B T S"],
) -> OpenLoop:
    """Filter the first `context` steps of `batch` `[B T ...]`, roll the prior over the rest, decode all.

    `start` and `previous_action` as in `Dreamer.loss`; `draw` holds uniform numbers, or int64 indices to force.
    Observations after the context are only compared against, never fed to the model.
    """
    time = batch["is_first"].shape[1]
    assert 1 <= context < time, f"{context} context steps of {time}"
    action = concat_dict(agent.action_space, previous_action)
    tokens = agent.encoder({key: batch[key][:, :context] for key in agent.observation_space})
    seen = agent.rssm.observe(start, tokens, action[:, :context], batch["is_first"][:, :context], draw[:, :context])
    state = State(seen.deter[:, -1], seen.stoch[:, -1])
    kernels, states = agent.rssm.kernels(), []
    for step in range(context, time):
        state, _ = agent.rssm.imagine_step(state, action[:, step], draw[:, step], kernels)
        states.append(state)
    deter = torch.cat([seen.deter, torch.stack([s.deter for s in states], 1)], 1)
    stoch = torch.cat([seen.stoch, torch.stack([s.stoch for s in states], 1)], 1)

    flat = stoch.flatten(-2)
    prediction, error, still = {}, {}, {}
    for key, dist in agent.decoder(deter, flat).items():
        image = agent.observation_space[key].is_image
        truth = batch[key].float() / 255 if image else batch[key]
        prediction[key] = in_units(dist)
        error[key] = _error(dist, dist.pred(), truth)
        still[key] = _error(dist, _decoded(dist, truth[:, context - 1 : context]), truth)
    prediction[REWARD] = agent.reward(feature(deter, flat)).pred()
    error[REWARD] = (prediction[REWARD] - batch["reward"]).abs()
    still[REWARD] = (batch["reward"][:, context - 1 : context] - batch["reward"]).abs()
    resets = batch["is_first"].clone()
    resets[:, :context] = False
    return OpenLoop(prediction, error, still, resets.cumsum(1) == 0, deter, stoch)


def in_units(dist: Reconstruction) -> Tensor:
    """The prediction in the observation's own units."""
    return symexp(dist.pred()) if isinstance(dist, SquaredError) and dist.symlog_target else dist.pred()


def _decoded(dist: Reconstruction, truth: Tensor) -> Tensor:
    """An observation in the decoder's units."""
    return symlog(truth.float()) if isinstance(dist, SquaredError) and dist.symlog_target else truth


def _error(dist: Reconstruction, prediction: Tensor, truth: Tensor) -> Float[Tensor, "B T"]:
    target = _decoded(dist, truth)
    if isinstance(dist, Categorical):
        wrong = (prediction.long() != target.long()).float()
    else:
        wrong = (prediction.float() - target.float()).abs()
    return wrong.flatten(2).mean(-1) if wrong.ndim > 2 else wrong
