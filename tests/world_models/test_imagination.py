"""Imagination against single steps of the model, and the policy that it keeps."""

import pytest
import torch
from torch import Tensor

from tests.world_models.small_agent import CONTINUOUS, DISCRETE, MULTI_DISCRETE, SCALAR, VECTOR, build
from world_models.distributions import one_hot
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.draws import Draws, draw_update
from world_models.dreamer.imagination import Imagined, imagine
from world_models.dreamer.rssm import State
from world_models.layers import concat_dict

ACTIONS = {"choice": DISCRETE, "move": CONTINUOUS, "pair": MULTI_DISCRETE, "push": SCALAR}
ROWS, HORIZON = 5, 3


def imagined(rows: int = ROWS) -> tuple[Dreamer, State, Draws, Imagined]:
    agent = build({"vector": VECTOR}, ACTIONS)
    for parameter in agent.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.4, torch.Generator().manual_seed(parameter.numel()))
    c, generator = agent.config.rssm, torch.Generator().manual_seed(1)
    draws = draw_update(ACTIONS, 1, 1, c.stoch, rows, HORIZON, generator)
    index = torch.randint(c.classes, (rows, c.stoch), generator=generator)
    start = State(torch.rand(rows, c.deter, generator=generator), one_hot(index, c.classes))
    return agent, start, draws, imagine(agent.rssm, agent.policy, start, draws)


@pytest.mark.parametrize("rows", [ROWS, 300])
def test_it_takes_the_steps_of_the_model(rows: int) -> None:
    agent, state, draws, found = imagined(rows)
    with torch.no_grad():
        for step in range(HORIZON):
            action = concat_dict(ACTIONS, {key: value[:, step] for key, value in found.actions.items()})
            state, logits = agent.rssm.imagine_step(state, action, draws.latents[:, step])
            after = torch.cat([state.deter, state.stoch.flatten(1)], -1)
            assert torch.allclose(found.features[:, step + 1], after, atol=1e-5)
            assert torch.allclose(found.logits[:, step], logits, atol=1e-5)


def objective(found: Imagined, policy: dict) -> Tensor:
    """A loss on all actions but the last, as the actor's."""
    each = [dist.logp(found.actions[key]) + dist.entropy() for key, dist in policy.items()]
    return torch.stack(each)[..., :-1].square().sum()


def test_the_policy_it_keeps_has_the_gradients_of_one_that_is_run_again() -> None:
    agent, _, _, found = imagined()
    parameters = list(agent.policy.parameters())
    kept = torch.autograd.grad(objective(found, found.policy), parameters)
    again = torch.autograd.grad(objective(found, agent.policy(found.features)), parameters)
    assert all(grad.any() for grad in again)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(kept, again, strict=True))
    assert not found.features.requires_grad


def test_without_gradients_nothing_is_kept() -> None:
    agent, start, draws, _ = imagined()
    with torch.no_grad():
        found = imagine(agent.rssm, agent.policy, start, draws)
    assert not any(dist.entropy().requires_grad for dist in found.policy.values())
