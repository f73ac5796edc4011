"""The penalty for leaving an older copy of the world model: what it measures, whom it moves, when it is renewed."""

from dataclasses import replace

import pytest
import torch

from learner.config import LearnerConfig, OptimizerConfig
from learner.dreamer_step import DreamerStep
from tests.world_models.small_agent import CONTINUOUS, DISCRETE, IMAGE, VECTOR, build, random_batch
from world_models.distributions import categorical_kl
from world_models.dreamer.agent import Dreamer, Output
from world_models.dreamer.anchor import Anchor
from world_models.dreamer.config import AnchorConfig
from world_models.layers import concat_dict

ACTION = {"steer": CONTINUOUS, "button": DISCRETE}
LEARNER = LearnerConfig(optimizer=OptimizerConfig(lr=1e-2, warmup=0), device="cpu")
ON = AnchorConfig(weight=2.0, every=3)


def agent() -> Dreamer:
    return build({"image": IMAGE, "vector": VECTOR}, ACTION)


def anchor(made: Dreamer, config: AnchorConfig = ON) -> Anchor:
    return Anchor(made.encoder, made.rssm, config)


def losses(made: Dreamer, kept: Anchor | None) -> Output:
    batch = random_batch(made)
    draws = DreamerStep(made, LEARNER).draws(2, 4)
    return made.loss(batch.steps, batch.start, batch.previous_action, draws, None, kept)


def trained(made: Dreamer, updates: int) -> Dreamer:
    step = DreamerStep(made, LEARNER)
    for n in range(updates):
        step(random_batch(made, seed=n))
    return made


def test_a_model_that_has_not_moved_pays_nothing_and_one_that_has_pays_for_both_distributions() -> None:
    made = agent()
    kept = anchor(made)
    still = losses(made, kept).losses["anchor"]
    assert still.shape == (2, 4) and still.abs().max() < 1e-5
    trained(made, 3)
    output = losses(made, kept)
    posterior, prior = (output.metrics[f"anchor/{name}_kl"] for name in ("posterior", "prior"))
    assert posterior > 1e-3 and prior > 1e-3
    assert torch.allclose(output.losses["anchor"].mean(), 2 * (posterior + prior))

    batch, draws = random_batch(made), DreamerStep(made, LEARNER).draws(2, 4)
    action = concat_dict(ACTION, batch.previous_action)
    tokens, reset = kept.encoder(batch.steps), batch.steps["is_first"]
    old = kept.rssm.observe(batch.start, tokens, action, reset, draws.posterior)
    log = made.rssm.log_probs
    by_hand = categorical_kl(log(old.posterior_logits), log(output.sequence.posterior_logits)).sum(-1)
    by_hand = by_hand + categorical_kl(log(kept.rssm.prior(old.deter)), log(output.values["prior_logits"])).sum(-1)
    assert torch.allclose(output.losses["anchor"], 2 * by_hand)


def test_gradients_reach_encoder_and_rssm_alone() -> None:
    made = trained(agent(), 1)
    kept = anchor(made)
    trained(made, 2)
    loss = losses(made, kept).losses["anchor"].sum()
    named = [(name, p) for name, p in made.named_parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    moved = {
        name.partition(".")[0] for (name, _), g in zip(named, found, strict=True) if g is not None and bool(g.any())
    }
    assert moved == {"encoder", "rssm"}
    assert not any(p.requires_grad for p in kept.parameters())


def test_a_heavy_anchor_holds_the_latents() -> None:
    def left(weight: float) -> float:
        made = agent()
        first, kept = anchor(made), anchor(made, AnchorConfig(weight=weight, every=0)) if weight else None
        step = DreamerStep(made, LEARNER, 0, None, kept)
        for n in range(12):
            step(random_batch(made, seed=n))
        return losses(made, first).losses["anchor"].mean().item()

    assert left(1000.0) < 0.5 * left(0.0)


def test_the_copy_is_renewed_when_it_is_due() -> None:
    made = agent()
    step = DreamerStep(made, LEARNER, 0, None, anchor(made))
    assert step.anchor is not None
    kls = [float(step(random_batch(made, seed=n)).metrics["anchor/posterior_kl"]) for n in range(7)]
    assert [abs(kl) < 1e-5 for kl in kls] == [True, False, False] * 2 + [True]
    first = AnchorConfig(weight=1.0, every=0)
    assert [anchor(made, first).due(n) for n in range(3)] == [True, False, False]


def test_an_anchor_that_weighs_nothing_leaves_the_agent_bit_identical() -> None:
    made, held = agent(), agent()
    plain, step = (
        DreamerStep(made, LEARNER, 7),
        DreamerStep(held, LEARNER, 7, None, anchor(held, replace(ON, weight=0.0))),
    )
    for n in range(4):
        one, other = plain(random_batch(made, seed=n)), step(random_batch(held, seed=n))
    for (name, a), b in zip(made.state_dict().items(), held.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert other.metrics.keys() - one.metrics.keys() == {"loss/anchor", "anchor/posterior_kl", "anchor/prior_kl"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weight": -1.0}, "anchor.weight=-1 must not be negative; 0 turns the penalty off"),
        ({"every": -1}, "anchor.every=-1 must not be negative; 0 keeps the first copy"),
    ],
)
def test_wrong_values_are_refused_with_what_is_allowed(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnchorConfig(**values)  # type: ignore[arg-type]
