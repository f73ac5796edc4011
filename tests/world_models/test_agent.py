"""The whole agent over every kind of space: shapes, finite losses, and where gradients stop."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from learner.config import LearnerConfig, OptimizerConfig
from learner.dreamer_step import DreamerStep
from tests.world_models.small_agent import (
    CONFIG,
    CONTINUOUS,
    DISCRETE,
    IMAGE,
    INTEGER,
    MULTI_DISCRETE,
    SCALAR,
    SWITCH,
    VECTOR,
    build,
    random_batch,
    random_values,
)
from world_models.dreamer.acting import ActingModel
from world_models.dreamer.agent import Dreamer, Output
from world_models.dreamer.config import DreamerConfig
from world_models.dreamer.draws import draw_actions
from world_models.space import Space, Spaces

BOARD = Space(dtype=np.dtype(np.float32), shape=(2, 3, 4))
OBSERVATIONS = {
    "vector": {"vector": VECTOR},
    "image": {"image": IMAGE},
    "mixed": {"image": IMAGE, "vector": VECTOR, "kind": INTEGER, "on": SWITCH, "second.image/left": IMAGE},
    "many axes": {
        "board": BOARD, "volume": replace(BOARD, shape=(2, 1, 2, 3)),
        "kinds": replace(INTEGER, shape=(2, 2, 2)), "flags": replace(SWITCH, shape=(1, 2, 2)), "image": IMAGE,
    },
}  # fmt: skip
ACTIONS = {
    "continuous": {"action": CONTINUOUS},
    "discrete": {"action": DISCRETE},
    "multi_discrete": {"action": MULTI_DISCRETE},
    "mixed": {"steer": CONTINUOUS, "gas": SCALAR, "button": DISCRETE, "keys": MULTI_DISCRETE},
}
LEARNER = LearnerConfig(optimizer=OptimizerConfig(warmup=0), device="cpu")


def losses(agent: Dreamer, rows: int = 2, time: int = 4) -> Output:
    batch = random_batch(agent, rows, time)
    draws = DreamerStep(agent, LEARNER).draws(rows, time)
    return agent.loss(batch.steps, batch.start, batch.previous_action, draws)


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("action", ACTIONS)
def test_one_update(observation: str, action: str) -> None:
    agent = build(OBSERVATIONS[observation], ACTIONS[action])
    before = {name: p.clone() for name, p in agent.named_parameters()}
    step = DreamerStep(agent, LEARNER)
    # Rewards and values start at exactly zero, so that advantages show after a few updates only.
    *_, update = (step(random_batch(agent, seed=n)) for n in range(4))
    assert all(value.isfinite().all() for value in update.metrics.values())
    assert {name for name, loss in update.output.losses.items() if loss.shape != (2, 4)} == {"replay_value"}
    assert {f"reconstruction/{key}" for key in OBSERVATIONS[observation]} < set(update.output.losses)
    still = [name for name, p in agent.named_parameters() if torch.equal(p, before[name])]
    assert not still


def test_shapes() -> None:
    agent = build(OBSERVATIONS["mixed"], ACTIONS["mixed"])
    step = DreamerStep(agent, LEARNER)
    update = step(random_batch(agent, rows=3, time=5))
    assert update.latents["deter"].shape == (3, 5, 8)
    assert update.latents["stoch"].shape == (3, 5, 3) and not update.latents["stoch"].is_floating_point()
    imagined = update.output.values["imagined"]
    assert imagined.features.shape == (15, 4, 8 + 12) and imagined.logits.shape == (15, 3, 3, 4)
    assert {key: value.shape for key, value in imagined.actions.items()} == {
        "steer": (15, 4, 2), "gas": (15, 4), "button": (15, 4), "keys": (15, 4, 2),
    }  # fmt: skip
    assert update.carry.state.deter.shape == (3, 8) and update.carry.action["keys"].shape == (3, 2)


def reached(agent: Dreamer, output: Output, names: tuple[str, ...]) -> set[str]:
    """Modules in which the sum of these losses has a gradient."""
    total = sum((output.losses[name].sum() for name in names), torch.zeros(()))
    named = [(name, p) for name, p in agent.named_parameters() if p.requires_grad]
    grads = torch.autograd.grad(total, [p for _, p in named], retain_graph=True, allow_unused=True)
    touched = [g is not None and bool(g.any()) for g in grads]
    return {name.split(".")[0] for (name, _), touch in zip(named, touched, strict=True) if touch}


def trained(config: DreamerConfig = CONFIG) -> Dreamer:
    """Past the first update, so that the outputs which start at zero pass gradients on."""
    agent = build(OBSERVATIONS["mixed"], ACTIONS["mixed"], config)
    DreamerStep(agent, LEARNER)(random_batch(agent))
    return agent


def test_imagination_losses_do_not_reach_the_world_model() -> None:
    agent = trained()
    output = losses(agent)
    assert reached(agent, output, ("policy",)) == {"policy"}
    assert reached(agent, output, ("value",)) == {"value"}


def test_the_other_losses_reach_the_world_model() -> None:
    agent = trained()
    output = losses(agent)
    model = {"encoder", "rssm"}
    assert reached(agent, output, ("reward",)) == model | {"reward"}
    assert reached(agent, output, ("continuation",)) == model | {"continuation"}
    assert reached(agent, output, ("replay_value",)) == model | {"value"}
    assert reached(agent, output, ("reconstruction/image", "reconstruction/vector")) == model | {"decoder"}


def test_gradients_can_be_kept_out() -> None:
    config = replace(CONFIG, reward_gradient=False, replay_value_gradient=False)
    agent = trained(config)
    output = losses(agent)
    assert reached(agent, output, ("reward",)) == {"reward"}
    assert reached(agent, output, ("replay_value",)) == {"value"}


def test_replay_value_can_be_off_and_imagination_can_start_late() -> None:
    agent = build(OBSERVATIONS["vector"], ACTIONS["mixed"], replace(CONFIG, replay_value=False, imagination_last=2))
    output = losses(agent)
    assert "replay_value" not in output.losses
    assert output.losses["policy"].shape == (2, 2) and output.values["imagined"].features.shape[0] == 4


def test_free_nats_clip_the_kl() -> None:
    config = replace(CONFIG, rssm=replace(CONFIG.rssm, free_nats=100.0))
    output = losses(build(OBSERVATIONS["vector"], ACTIONS["discrete"], config))
    assert (output.losses["dynamics"] == 100).all() and (output.losses["representation"] == 100).all()


def test_the_slow_value_follows_the_new_parameters() -> None:
    agent = build(OBSERVATIONS["vector"], ACTIONS["discrete"])
    old = [p.clone() for p in agent.slow_value.parameters()]
    DreamerStep(agent, LEARNER)(random_batch(agent))
    for before, slow, fast in zip(old, agent.slow_value.parameters(), agent.value.parameters(), strict=True):
        assert torch.allclose(slow, 0.98 * before + 0.02 * fast, atol=1e-7)


def act(model: ActingModel, spaces: Spaces, reset: list[bool], greedy: bool, steps: int = 3) -> torch.Tensor:
    """Recurrent state after some steps of the same draws and observations."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    carry = model.initial(2)
    for _ in range(steps):
        obs = {key: torch.from_numpy(value) for key, value in random_values(rng, spaces, 2).items()}
        draw = torch.rand(2, 3, generator=generator)
        noise = None if greedy else draw_actions(model.action_space, (2,), generator)
        carry, index, _ = model.act(carry, obs, torch.tensor(reset), draw, noise)
        assert index.shape == (2, 3)
        for key, space in model.action_space.items():
            assert carry.action[key].shape == (2, *space.shape)
            assert carry.action[key].is_floating_point() != space.discrete
    return carry.state.deter


@pytest.mark.parametrize("greedy", [False, True])
def test_acting_carries_state_per_environment_and_a_reset_forgets(greedy: bool) -> None:
    spaces = OBSERVATIONS["mixed"]
    model = ActingModel.sharing(build(spaces, ACTIONS["mixed"]))
    kept, again = (act(model, spaces, [False, False], greedy) for _ in range(2))
    half = act(model, spaces, [True, False], greedy)
    assert torch.equal(kept, again)
    assert not torch.equal(kept[0], half[0]) and torch.allclose(kept[1], half[1], atol=1e-6)


def test_observations_that_the_model_does_not_understand_are_named() -> None:
    odd = replace(IMAGE, shape=(10, 12, 3))
    with pytest.raises(ValueError, match=r"'image': .*multiples of 4 from 12 to 64 .*got \(10, 12\)"):
        build({"image": odd}, ACTIONS["discrete"])
    with pytest.raises(ValueError, match="must share a size"):
        build({"a": IMAGE, "b": replace(IMAGE, shape=(16, 16, 3))}, ACTIONS["discrete"])
    with pytest.raises(ValueError, match="no observation keys"):
        build({}, ACTIONS["discrete"])
    with pytest.raises(ValueError, match="decoder.blocks=3 must divide"):
        build({"image": IMAGE}, ACTIONS["discrete"], replace(CONFIG, decoder=replace(CONFIG.decoder, blocks=3)))
