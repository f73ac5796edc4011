"""The learner in somebody else's loop: batches of plain tensors, and the README's example as it is printed."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from learner.batch import batch_of
from learner.config import LearnerConfig, OptimizerConfig
from learner.dreamer_step import DreamerStep
from tests.world_models.small_agent import CONTINUOUS, DISCRETE, IMAGE, VECTOR, build, random_batch
from world_models.dreamer.agent import Dreamer

README = Path(__file__).parents[2] / "README.md"
LEARNER = LearnerConfig(optimizer=OptimizerConfig(lr=1e-3, warmup=0), device="cpu")
SPACES = {"vector": VECTOR, "image": IMAGE}, {"steer": CONTINUOUS, "button": DISCRETE}


def plain(time: int = 6, seed: int = 0) -> dict[str, Tensor]:
    """Two sequences."""
    generator, lead = torch.Generator().manual_seed(seed), (2, time)
    flags = {key: torch.rand(lead, generator=generator) < 0.2 for key in ("is_first", "is_last", "is_terminal")}
    return flags | {
        "vector": torch.randn(*lead, 3, generator=generator),
        "image": torch.randint(256, (*lead, 12, 12, 3), generator=generator, dtype=torch.uint8),
        "steer": torch.randn(*lead, 2, generator=generator),
        "button": torch.randint(3, lead, generator=generator),
        "reward": torch.randn(lead, generator=generator),
    }


def example() -> str:
    (found,) = [one for one in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "batch_of" in one]
    return found


def test_the_example_is_short_and_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert len([line for line in example().splitlines() if line.strip()]) == 15
    names: dict[str, Any] = {}
    exec(compile(example(), str(README), "exec"), names)
    losses = [float(line) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 2 and all(0 < loss < 1e6 for loss in losses)
    assert names["update"].updates == 2


def test_it_learns_what_the_learner_learns() -> None:
    """The same steps as replay hands them over, from the zero state, give the same parameters."""
    ours, theirs = (DreamerStep(build(*SPACES), LEARNER, 3) for _ in range(2))
    ready = random_batch(ours.agent, rows=2, time=6)
    zero = {key: torch.zeros_like(value[:, :1]) for key, value in ready.previous_action.items()}
    start = ours.agent.rssm.initial(2)
    first = {key: torch.cat([zero[key], value[:, 1:]], 1) for key, value in ready.previous_action.items()}
    ours(ready._replace(start=start, previous_action=first))
    taken = {key: torch.cat([value[:, 1:], ready.last_action[key][:, None]], 1) for key, value in first.items()}
    theirs(batch_of(theirs.agent, ready.steps | taken | {"other": torch.zeros(1)}))
    for a, b in zip(ours.agent.state_dict().values(), theirs.agent.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def sequence(agent: Dreamer, step: DreamerStep, steps: dict[str, Tensor], forced: Tensor, **more: Any) -> Any:
    draws = step.draws(*steps["is_first"].shape)._replace(posterior=forced)
    return step(batch_of(agent, steps, **more), draws)


def test_a_carry_continues_a_sequence() -> None:
    """Two halves pass through the same states as the whole."""
    frozen = LearnerConfig(optimizer=OptimizerConfig(lr=0.0, warmup=0), device="cpu")
    step = DreamerStep(build(*SPACES), frozen, 0)
    steps, forced = plain(8), torch.randint(4, (2, 8, 3))
    whole = sequence(step.agent, step, steps, forced)
    halves = [{key: value[:, part] for key, value in steps.items()} for part in (slice(4), slice(4, 8))]
    first = sequence(step.agent, step, halves[0], forced[:, :4])
    second = sequence(step.agent, step, halves[1], forced[:, 4:], carry=first.carry)
    torch.testing.assert_close(torch.cat([first.latents["deter"], second.latents["deter"]], 1), whole.latents["deter"])
    alone = sequence(step.agent, step, halves[1], forced[:, 4:])
    assert not torch.allclose(alone.latents["deter"], second.latents["deter"])


def test_flags_and_rewards_may_be_numbers() -> None:
    agent, steps = build(*SPACES), plain()
    numbers = {key: value.double() for key, value in steps.items() if key.startswith("is_") or key == "reward"}
    a, b = batch_of(agent, steps), batch_of(agent, steps | numbers)
    assert all(torch.equal(a.steps[key], b.steps[key]) and a.steps[key].dtype == b.steps[key].dtype for key in a.steps)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"button": None, "is_last": None}, "The batch lacks button, is_last; it needs vector, image, steer, bu"),
        ({"vector": torch.zeros(2, 6, 4)}, r"vector has shape \[2, 6, 4\]; give \[2, 6, 3\]: sequences first"),
        ({"reward": torch.zeros(2, 6, 1)}, r"reward has shape \[2, 6, 1\]; give \[2, 6\]: sequences first"),
        ({"is_first": torch.zeros(6)}, r"vector has shape \[2, 6, 3\]; give \[B T 3\]: sequences first"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_error(change: dict[str, Tensor | None], expected: str) -> None:
    steps = {key: value for key, value in (plain() | change).items() if value is not None}
    with pytest.raises(ValueError, match=expected):
        batch_of(build(*SPACES), steps)


def test_a_carry_of_other_rows_is_refused_and_a_batch_of_other_rows_begins_anew() -> None:
    agent = build({"vector": VECTOR}, {"steer": CONTINUOUS})
    step = DreamerStep(agent, LearnerConfig(device="cpu"))
    carry = step(random_batch(agent, rows=4)).carry
    step(random_batch(agent, rows=2))
    steps: dict[str, Any] = {
        "vector": np.zeros((2, 4, *VECTOR.shape), np.float32),
        "steer": np.zeros((2, 4, *CONTINUOUS.shape)),
    }
    steps |= {key: np.zeros((2, 4), np.float32) for key in ("reward", "is_first", "is_last", "is_terminal")}
    step(batch_of(agent, steps))  # arrays will do
    with pytest.raises(ValueError, match="The carry is of 4 sequences, the batch of 2"):
        batch_of(agent, steps, carry)


def test_parts_that_are_not_equal_are_refused() -> None:
    agent = build({"vector": VECTOR}, {"steer": CONTINUOUS})
    step = DreamerStep(agent, LearnerConfig(device="cpu", accumulate=2))
    with pytest.raises(ValueError, match="A batch of 3 sequences has no 2 equal parts"):
        step(random_batch(agent, rows=3))
