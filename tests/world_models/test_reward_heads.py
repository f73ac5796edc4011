"""Several reward heads: trained alike, begun differently, and the least of them believed in imagination."""

from dataclasses import replace

import pytest
import torch

from learner.config import LearnerConfig, OptimizerConfig
from learner.dreamer_step import DreamerStep
from tests.world_models.small_agent import CONFIG, CONTINUOUS, DISCRETE, IMAGE, VECTOR, build, random_batch
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.config import DreamerConfig
from world_models.dreamer.official_names import official_names
from world_models.dreamer.parts import part_of
from world_models.dreamer.planning import DreamerPlanning

ACTION = {"steer": CONTINUOUS, "button": DISCRETE}
LEARNER = LearnerConfig(optimizer=OptimizerConfig(lr=1e-2, warmup=0), device="cpu")
THREE = replace(CONFIG, reward_heads=3)


def agent(config: DreamerConfig = THREE) -> Dreamer:
    return build({"image": IMAGE, "vector": VECTOR}, ACTION, config)


def test_one_head_is_an_agent_as_it_was_and_more_leave_all_others_as_they_begin() -> None:
    one, three = agent(CONFIG).state_dict(), agent().state_dict()
    assert not [name for name in one if "more" in name]
    assert {name.partition(".")[0] for name in three.keys() - one.keys()} == {"more_rewards"}
    assert all(torch.equal(value, three[name]) for name, value in one.items())
    assert not torch.equal(three["more_rewards.0.mlp.0.linear.weight"], three["reward.mlp.0.linear.weight"])
    assert {part_of(name) for name in three if "reward" in name} == {"reward"}


def test_the_least_is_what_imagination_and_health_believe() -> None:
    made = agent()
    step = DreamerStep(made, LEARNER)
    for n in range(4):
        update = step(random_batch(made, seed=n))
    features = update.output.values["imagined"].features
    each = torch.stack([head(features).pred() for head in (made.reward, *made.more_rewards)])
    assert torch.equal(made.head_rewards(features), each) and torch.equal(made.expected_reward(features), each.amin(0))
    assert each.std(0).max() > 1e-4, "they differ"
    batch, draws = random_batch(made), step.draws(2, 4)
    output = made.loss(batch.steps, batch.start, batch.previous_action, draws)
    least = made.expected_reward(output.values["imagined"].features)
    assert torch.allclose(output.values["reward"], least)

    planning = DreamerPlanning(made)
    state = planning.initial(5)
    assert planning.rewards(state, torch.zeros(5, 5), state).shape == (3, 5), "planners weigh them as they are told to"


def test_the_loss_is_the_mean_over_the_heads() -> None:
    made = agent()
    DreamerStep(made, LEARNER)(random_batch(made))
    batch, draws = random_batch(made), DreamerStep(made, LEARNER).draws(2, 4)
    output = made.loss(batch.steps, batch.start, batch.previous_action, draws)
    seen = output.values["feature"]
    by_hand = torch.stack([head(seen).loss(batch.steps["reward"]) for head in made.reward_heads]).mean(0)
    assert torch.allclose(output.losses["reward"], by_hand)
    gradients = torch.autograd.grad(by_hand.sum(), list(made.more_rewards.parameters()))
    assert all(bool(g.any()) for g in gradients)


def test_a_head_more_changes_nothing_until_they_differ() -> None:
    """All begin with rewards of exactly zero, so the first update moves the policy as one head would."""
    made, other = agent(CONFIG), agent()
    one, three = (DreamerStep(a, LEARNER)(random_batch(a)).output for a in (made, other))
    for name in one.losses:
        assert torch.allclose(one.losses[name], three.losses[name]), name


def test_every_parameter_has_a_name_of_its_own_in_the_official_layout() -> None:
    made = agent()
    names = official_names(made)
    assert names["more_rewards.1.out.weight"] == "rew2/head/logits/kernel"
    assert len(set(names.values())) == len(list(made.parameters()))


def test_no_head_is_refused() -> None:
    with pytest.raises(ValueError, match="reward_heads=0 must be positive"):
        replace(CONFIG, reward_heads=0)
