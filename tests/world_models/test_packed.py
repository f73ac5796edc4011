"""Packed acting computes what the modules compute, for every kind of space, and follows their parameters."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from learner.dreamer_step import DreamerStep
from tests.world_models.small_agent import CONFIG, IMAGE, build, random_batch, random_values
from tests.world_models.test_agent import ACTIONS, LEARNER, OBSERVATIONS
from world_models.dreamer.acting import ActingModel
from world_models.dreamer.config import DreamerConfig
from world_models.dreamer.draws import draw_actions
from world_models.dreamer.packed.acting import PackedActing
from world_models.dreamer.packed.encoder import CHUNK
from world_models.dreamer.policy import DreamerPolicy
from world_models.snapshot import take_snapshot
from world_models.space import Spaces

CONFIGS = {
    "as built": CONFIG,
    "deep": replace(
        CONFIG,
        rssm=replace(CONFIG.rssm, dynamics_layers=2, posterior_layers=3, classes=20),
        policy=replace(CONFIG.policy, layers=3),
        encoder=replace(CONFIG.encoder, layers=3, symlog=False),
    ),
    "gates alone": replace(CONFIG, rssm=replace(CONFIG.rssm, dynamics_layers=0, blocks=4, unimix=0.0)),
}


def acting(observation: Spaces, action: Spaces, config: DreamerConfig = CONFIG) -> ActingModel:
    """All parameters random, those too that begin at zero, one or nearly zero."""
    model = ActingModel.sharing(build(observation, action, config))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.5)
    return model


def compare(model: ActingModel, packed: PackedActing, rows: int = 5, steps: int = 4, mode: bool = False) -> None:
    """The same observations, resets and draws through both: equal latents, and the rest to 1e-5."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    ours = theirs = model.initial(rows)
    for _ in range(steps):
        obs = {key: torch.from_numpy(v) for key, v in random_values(rng, model.observation_space, rows).items()}
        for key, space in model.observation_space.items():
            if space.dtype == np.float32:
                obs[key][0] = -torch.inf  # not available
            elif not space.is_image and space.dtype == np.int32:
                obs[key][0] = -1
        reset = torch.rand(rows, generator=generator) < 0.3
        draw = torch.rand(rows, model.rssm.config.stoch, generator=generator)
        noise = None if mode else draw_actions(model.action_space, (rows,), generator)
        theirs, index, _ = model.act(theirs, obs, reset, draw, noise)
        ours, packed_index = packed.act(ours, obs, reset, draw, noise)
        assert torch.equal(packed_index.long(), index)
        assert torch.equal(ours.state.stoch, theirs.state.stoch)
        torch.testing.assert_close(ours.state.deter, theirs.state.deter, atol=1e-5, rtol=1e-5)
        assert ours.action.keys() == theirs.action.keys()
        for key, action in theirs.action.items():
            torch.testing.assert_close(ours.action[key], action, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_every_kind_of_space(observation: str, action: str, mode: bool) -> None:
    model = acting(OBSERVATIONS[observation], ACTIONS[action])
    compare(model, PackedActing(model), mode=mode)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_depth(config: str) -> None:
    model = acting(OBSERVATIONS["mixed"], ACTIONS["mixed"], CONFIGS[config])
    compare(model, PackedActing(model))


def test_more_images_than_are_convolved_at_a_time() -> None:
    model = acting({"image": IMAGE}, ACTIONS["discrete"])
    compare(model, PackedActing(model), rows=2 * CHUNK + 1, steps=2)


def test_it_follows_the_optimiser_and_snapshots() -> None:
    agent = build(OBSERVATIONS["mixed"], ACTIONS["mixed"])
    model = ActingModel.sharing(agent)
    policy = DreamerPolicy(model)
    assert policy.packed
    compare(model, policy.packed)
    DreamerStep(agent, LEARNER)(random_batch(agent))
    compare(model, policy.packed)
    policy.update(take_snapshot(acting(OBSERVATIONS["mixed"], ACTIONS["mixed"]), version=1, updates=1))
    compare(model, policy.packed)


def test_a_carry_of_one_is_a_carry_of_the_other() -> None:
    model = acting(OBSERVATIONS["vector"], ACTIONS["mixed"])
    policy, rng = DreamerPolicy(model, seed=3), np.random.default_rng(0)
    carry, first = policy.initial(2), np.array([True, False])
    for draw in range(3):
        obs = random_values(rng, model.observation_space, 2)
        again = policy.load(policy.state(carry))
        carry, actions, latents = policy.act(carry, obs, first, draw)
        _, same, others = policy.act(again, obs, first, draw)
        assert all(np.array_equal(actions[key], same[key]) for key in actions)
        assert all(np.array_equal(latents[key], others[key]) for key in latents)
        assert latents["deter"].dtype == np.float16 and latents["stoch"].dtype == np.int8


def test_convolutions_in_bfloat16_are_nearly_the_same() -> None:
    model = acting({"image": IMAGE}, ACTIONS["continuous"])
    rng = np.random.default_rng(0)
    obs, first = random_values(rng, model.observation_space, 4), np.ones(4, bool)
    exact, coarse = (DreamerPolicy(model, mode=True, precision=p) for p in ("float32", "bfloat16"))
    tokens = []
    for policy in (exact, coarse):
        policy.act(policy.initial(4), obs, first, 0)
        assert policy.packed
        with torch.inference_mode():
            tokens.append(policy.packed.encoder({"image": torch.from_numpy(obs["image"])}))
    difference = (tokens[0] - tokens[1]).abs().max()
    assert 0 < difference < 0.03 * tokens[0].abs().max()


def test_a_model_made_in_inference_mode_acts() -> None:
    with torch.inference_mode():
        model = ActingModel.sharing(build(OBSERVATIONS["vector"], ACTIONS["mixed"]))
        policy = DreamerPolicy(model)
        rows = random_values(np.random.default_rng(0), model.observation_space, 2)
        _, actions, _ = policy.act(policy.initial(2), rows, np.ones(2, bool), 0)
    assert all(len(value) == 2 for value in actions.values())
