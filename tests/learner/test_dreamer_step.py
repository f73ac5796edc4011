"""One update: a function of parameters, batch, seed and update number."""

import copy

import pytest
import torch

from learner.batch import DeviceBatch
from learner.config import LearnerConfig, OptimizerConfig
from learner.dreamer_step import DreamerStep, choose_device
from tests.world_models.small_agent import CONTINUOUS, DISCRETE, IMAGE, VECTOR, build, random_batch
from world_models.dreamer.agent import Dreamer
from world_models.space import Spaces

LEARNER = LearnerConfig(optimizer=OptimizerConfig(lr=1e-3, warmup=0), device="cpu")
OBSERVATIONS: dict[str, Spaces] = {"vector": {"vector": VECTOR}, "image": {"image": IMAGE}}
ACTION = {"steer": CONTINUOUS, "button": DISCRETE}


def run(agent: Dreamer, seed: int, updates: int) -> DreamerStep:
    step = DreamerStep(agent, LEARNER, seed)
    for n in range(updates):
        step(random_batch(agent, seed=n))
    return step


def same(a: Dreamer, b: Dreamer) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_the_same_seed_gives_bit_identical_parameters(observation: str) -> None:
    agents = [build(OBSERVATIONS[observation], ACTION) for _ in range(3)]
    torch.manual_seed(1)
    run(agents[0], 5, 3)
    torch.manual_seed(2)  # the global generator has no say
    run(agents[1], 5, 3)
    run(agents[2], 6, 3)
    assert same(agents[0], agents[1]) and not same(agents[0], agents[2])


def test_continuing_is_the_same_as_going_on() -> None:
    whole = build(OBSERVATIONS["vector"], ACTION)
    run(whole, 0, 4)
    agent = build(OBSERVATIONS["vector"], ACTION)
    first = run(agent, 0, 2)
    second = DreamerStep(copy.deepcopy(agent), LEARNER, 0)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.updates = first.updates
    for n in (2, 3):
        second(random_batch(second.agent, seed=n))
    assert same(whole, second.agent)


def test_draws_depend_on_seed_and_update_number() -> None:
    agent = build(OBSERVATIONS["vector"], ACTION)
    a, b, other = DreamerStep(agent, LEARNER, 3), DreamerStep(agent, LEARNER, 3), DreamerStep(agent, LEARNER, 4)
    assert torch.equal(a.draws(2, 4).latents, b.draws(2, 4).latents)
    assert not torch.equal(a.draws(2, 4).latents, other.draws(2, 4).latents)
    b.updates = 1
    assert not torch.equal(a.draws(2, 4).posterior, b.draws(2, 4).posterior)


def continuing(batch: DeviceBatch, rows: list[bool]) -> DeviceBatch:
    return batch._replace(continues=torch.tensor(rows))


def test_a_continuing_row_starts_from_the_previous_final_state(monkeypatch: pytest.MonkeyPatch) -> None:
    step = DreamerStep(build(OBSERVATIONS["vector"], ACTION), LEARNER)
    first = step(random_batch(step.agent, seed=0))
    carry, batch = first.carry, random_batch(step.agent, seed=1)
    steps = batch.steps | {"is_first": torch.zeros_like(batch.steps["is_first"])}
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    original = step.agent.loss

    def spy(steps, start, previous_action, *others):
        seen.append((start.deter, previous_action["steer"]))
        return original(steps, start, previous_action, *others)

    monkeypatch.setattr(step.agent, "loss", spy)
    step(continuing(batch._replace(steps=steps), [True, False]))
    deter, steer = seen[0]
    assert torch.equal(deter[0], carry.state.deter[0]) and torch.equal(deter[1], batch.start.deter[1])
    assert torch.equal(steer[0, 0], carry.action["steer"][0])
    assert torch.equal(steer[1], batch.previous_action["steer"][1])
    assert torch.equal(steer[0, 1:], batch.previous_action["steer"][0, 1:])


def test_bfloat16_keeps_parameters_losses_and_gradients_in_float32() -> None:
    config = LearnerConfig(optimizer=LEARNER.optimizer, device="cpu", precision="bfloat16")
    agent = build(OBSERVATIONS["image"], ACTION)
    update = DreamerStep(agent, config)(random_batch(agent))
    assert all(loss.dtype == torch.float32 and loss.isfinite().all() for loss in update.output.losses.values())
    assert all(p.dtype == torch.float32 for p in agent.parameters())
    assert update.latents["deter"].dtype == torch.float32
    exact = build(OBSERVATIONS["image"], ACTION)
    reference = DreamerStep(exact, LEARNER)(random_batch(exact))
    assert update.metrics["loss/total"].item() == pytest.approx(reference.metrics["loss/total"].item(), rel=0.05)


def test_the_device_is_checked() -> None:
    assert choose_device(LEARNER).type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="'cuda', but torch sees no CUDA device"):
            choose_device(LearnerConfig(device="cuda"))
