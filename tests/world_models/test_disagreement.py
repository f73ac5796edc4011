"""Exploration by disagreement: what the ensemble learns, where its gradients stop, what its reward is."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from learner.config import LearnerConfig, OptimizerConfig
from learner.dreamer_step import DreamerStep
from learner.optimizer import LaProp
from tests.world_models.small_agent import CONFIG, CONTINUOUS, DISCRETE, IMAGE, VECTOR, build, random_batch
from world_models.dreamer.agent import Dreamer, Output
from world_models.dreamer.config import ExplorationConfig, sized
from world_models.dreamer.disagreement import Disagreement

ACTION = {"steer": CONTINUOUS, "button": DISCRETE}
LEARNER = LearnerConfig(optimizer=OptimizerConfig(lr=1e-3, warmup=0), device="cpu")
ON = ExplorationConfig(disagreement=2.0, members=3)


def agent() -> Dreamer:
    return build({"image": IMAGE, "vector": VECTOR}, ACTION)


def ensemble(config: ExplorationConfig = ON) -> Disagreement:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Disagreement(ACTION, CONFIG, config)


def losses(made: Dreamer, exploration: Disagreement | None) -> Output:
    batch = random_batch(made)
    draws = DreamerStep(made, LEARNER).draws(2, 4)
    return made.loss(batch.steps, batch.start, batch.previous_action, draws, exploration)


def transitions(rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, actions, latents and beginnings `[rows 2 ...]`; one is like another only by chance."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 2, 8 + 12, generator=generator)
    action = torch.randn(rows, 2, 2 + 3, generator=generator)
    latents = torch.nn.functional.one_hot(torch.randint(4, (rows, 2, 3), generator=generator), 4).flatten(-2).float()
    return features, action, latents, torch.zeros(rows, 2, dtype=torch.bool)


def test_transitions_that_were_trained_on_are_rewarded_less_than_others() -> None:
    made = Disagreement(ACTION, CONFIG, replace(ON, members=5, units=64, layers=2))
    seen, unseen = transitions(8, seed=1), transitions(8, seed=2)
    optimizer = LaProp(made.named_parameters(), OptimizerConfig(lr=3e-3, warmup=0))
    first = made.replayed(*seen)[0].mean()
    for _ in range(300):
        optimizer.zero_grad()
        loss, known = made.replayed(*seen)
        loss.mean().backward()
        optimizer.step()
    assert loss.mean() < 0.1 * first
    novel = made.replayed(*unseen)[1]
    assert novel[:, 1].min() > 3 * known[:, 1].max()
    assert not novel[:, 0].any() and not known[:, 0].any(), "nobody knows what led to the first step"


def test_disagreement_is_the_variance_of_the_means_over_the_members() -> None:
    made = ensemble()
    features, action, *_ = transitions(6, seed=3)
    means = made(features[:, 0], action[:, 1])
    assert means.shape == (3, 6, 12)
    by_hand = ((means - means.mean(0)) ** 2).sum(0).div(2).mean(-1)
    assert torch.allclose(made.replayed(*transitions(6, seed=3))[1][:, 1], by_hand)
    chosen = torch.stack([action[:, 1], action[:, 0]], 1)
    imagined = made.imagined(features, chosen)  # an action is chosen in a state; in replay it led to one
    assert torch.allclose(imagined[:, 1], by_hand) and not imagined[:, 0].any()
    huge = made(features[:, 0], 1e3 * action[:, 1].sign())
    assert torch.equal(huge, made(features[:, 0], action[:, 1].sign())), "bounded, as for the dynamics"


def test_the_reward_is_in_units_of_what_replay_holds() -> None:
    made, first = ensemble(), torch.tensor([[True, False, False], [False, True, False]])
    made.follow(torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]]), first)
    assert made.typical == 2, "of the three steps that begin no episode; the first batch is where it begins"
    made.follow(torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]), first)
    assert torch.isclose(made.typical, torch.tensor(1.95))
    apart = torch.tensor([0.0, 1.95, 3.9])
    torch.testing.assert_close(made.reward(torch.ones(3), apart), torch.tensor([1.0, 3.0, 5.0]))
    assert "typical" in made.state_dict(), "runs go on exactly"


def test_no_step_leads_from_one_episode_into_the_next() -> None:
    features, action, latents, first = transitions(6, seed=4)
    first[:3, 1] = True
    loss, reward = ensemble().replayed(features, action, latents, first)
    assert not loss[:3].any() and not reward[:3].any()
    assert loss[3:].all() and reward[3:, 1].all()


def test_the_ensemble_and_the_world_model_do_not_reach_each_other() -> None:
    made, exploration = agent(), ensemble()
    DreamerStep(made, LEARNER, 0, exploration)(random_batch(made))  # outputs that start at zero pass gradients on now
    output = losses(made, exploration)
    own, others = list(exploration.parameters()), [p for p in made.parameters() if p.requires_grad]
    disagreement = output.losses.pop("disagreement")
    assert disagreement.shape == (2, 3)
    gradients = torch.autograd.grad(disagreement.sum(), [*own, *others], retain_graph=True, allow_unused=True)
    assert all(g is not None and bool(g.any()) for g in gradients[: len(own)])
    assert all(g is None for g in gradients[len(own) :])
    rest = torch.autograd.grad(made.total(output.losses), own, allow_unused=True)
    assert all(g is None for g in rest)


def test_policy_and_values_learn_from_both_rewards() -> None:
    def found(config: ExplorationConfig | None) -> Output:
        made = agent()
        DreamerStep(made, LEARNER)(random_batch(made))  # rewards and values start at exactly zero
        return losses(made, ensemble(config) if config else None)

    plain, both, task_free = found(None), found(ON), found(replace(ON, task=0.0))
    for output, factor in ((both, 1.0), (task_free, 0.0)):
        novel = output.values["imagination"].metrics["reward"] - factor * plain.values["imagination"].metrics["reward"]
        mean = output.metrics["exploration/disagreement_imagined"] * 3 / 4  # the first of 4 states has none
        typical = output.metrics["exploration/disagreement_replay"]  # the first batch is where the average begins
        assert torch.allclose(novel, 2 * mean / typical, rtol=1e-4)
        assert not torch.equal(output.losses["policy"], plain.losses["policy"])
        assert not torch.equal(output.losses["value"], plain.losses["value"])
        assert not torch.equal(output.losses["replay_value"], plain.losses["replay_value"])
    assert task_free.metrics["exploration/task_return"] == 0 < task_free.metrics["exploration/intrinsic_return"]
    for name in ("reward", "continuation", "dynamics", "representation", "reconstruction/image"):
        assert torch.equal(both.losses[name], plain.losses[name]), name
    assert both.metrics.keys() - plain.metrics.keys() == {
        f"exploration/{name}"
        for name in ("disagreement_replay", "disagreement_imagined", "intrinsic_return", "task_return")
    }


def test_an_ensemble_whose_reward_counts_for_nothing_leaves_the_agent_bit_identical() -> None:
    """It has no draws, no gradient and no part in another parameter's step."""
    made, explored = agent(), agent()
    plain = DreamerStep(made, LEARNER, 7)
    step = DreamerStep(explored, LEARNER, 7, ensemble(replace(ON, disagreement=1e-45)))
    for n in range(3):
        one, other = plain(random_batch(made, seed=n)), step(random_batch(explored, seed=n))
    for (name, a), b in zip(made.state_dict().items(), explored.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert "exploration/disagreement_replay" in other.metrics and "loss/disagreement" in other.metrics
    assert not {key for key in one.metrics if "disagreement" in key or "exploration" in key}


def test_updates_train_the_ensemble_and_repeat_bit_for_bit() -> None:
    ends = []
    for _ in range(2):
        made, exploration = agent(), ensemble()
        before = [p.clone() for p in exploration.parameters()]
        step = DreamerStep(made, LEARNER, 0, exploration)
        for n in range(3):
            update = step(random_batch(made, seed=n))
        assert all(value.isfinite().all() for value in update.metrics.values())
        assert not any(torch.equal(a, b) for a, b in zip(before, exploration.parameters(), strict=True))
        ends.append([p.clone() for p in (*made.parameters(), *exploration.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_bfloat16_keeps_loss_and_reward_in_float32() -> None:
    config = replace(LEARNER, precision="bfloat16")
    made = agent()
    update = DreamerStep(made, config, 0, ensemble())(random_batch(made))
    assert update.output.losses["disagreement"].dtype == torch.float32
    assert update.metrics["exploration/disagreement_imagined"].dtype == torch.float32


def test_the_networks_have_the_shape_of_the_policy_unless_told_otherwise() -> None:
    assert ON.shape(CONFIG) == (6, 1) and replace(ON, units=5, layers=2).shape(CONFIG) == (5, 2)
    assert ON.shape(sized("size12m")) == (256, 3)
    for config in (ON, replace(ON, units=5, layers=3)):
        count = sum(p.numel() for p in Disagreement({}, CONFIG, config).parameters())
        assert config.parameters(CONFIG) == count
    assert ExplorationConfig().parameters(CONFIG) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"disagreement": -1.0}, "disagreement=-1 must not be negative; 0 turns exploration off"),
        ({"disagreement": 1.0, "task": -0.5}, "task=-0.5 must not be negative; 0 explores without a task"),
        ({"task": 0.0}, "disagreement=0 turns off; set that too"),
        ({"members": 1}, "members=1 must be at least 2"),
        ({"units": -1}, "units=-1 must not be negative"),
        ({"layers": -1}, "layers=-1 must not be negative"),
    ],
)
def test_wrong_values_are_refused_with_what_is_allowed(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExplorationConfig(**values)  # type: ignore[arg-type]
