"""What a CUDA graph needs of the update, checked on a CPU: static shapes, fixed places, and no wait for the device."""

import copy
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from learner.dreamer_step import DreamerStep
from learner.recording import WARM_UP, Recorded, RecordingError
from tests.learner.test_dreamer_step import ACTION, LEARNER, OBSERVATIONS, same
from tests.world_models.small_agent import build, random_batch
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.anchor import Anchor
from world_models.dreamer.config import AnchorConfig, ExplorationConfig
from world_models.dreamer.disagreement import Disagreement

WAITING = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal",
    "is_nonzero", "repeat_interleave", "bincount", "lift_fresh",
}  # fmt: skip
"""Operators that wait for the device or copy from the host: `item`, `bool`, shapes that depend on data, `tensor`."""
ON_CPU_ALONE = "world_models/dreamer/return_scale.py"
"""`torch.quantile` looks at its quantiles, unless they are on a GPU."""


class Rules(TorchDispatchMode):
    """Notes operators that a recording must not have, and where they are called."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: list[str] = []
        self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += 1
        name = func.overloadpacket.__name__
        masks = name == "index" and any(x is not None and x.dtype == torch.bool for x in args[1])
        if masks or (name in WAITING and not (name == "repeat_interleave" and len(args) > 1)):
            stack = traceback.extract_stack()
            if not any(frame.filename.endswith(ON_CPU_ALONE) for frame in stack):
                own = [f for f in stack if "/world_models/" in f.filename or "/learner/" in f.filename]
                self.broken.append(f"{name} in {own[-1].filename}:{own[-1].lineno}" if own else name)
        return func(*args, **(kwargs or {}))


class Again:
    """In place of a CUDA graph: does the same again, from the same inputs, and writes into the same results."""

    def warm_up(self, function: Callable[[], Any]) -> Any:
        return function()

    def record(self, function: Callable[[], Any]) -> None:
        self.function, self.outputs = function, None

    def replay(self) -> Any:
        found = self.function()
        if self.outputs is None:
            self.outputs = found
        for held, fresh in zip(pytree.tree_leaves(self.outputs), pytree.tree_leaves(found), strict=True):
            held.detach().copy_(fresh)
        return self.outputs


def built(kind: str) -> Dreamer:
    return build(OBSERVATIONS[kind], ACTION)


@pytest.mark.parametrize("kind", list(OBSERVATIONS))
@pytest.mark.parametrize("more", ["plain", "bfloat16", "exploration", "anchor", "accumulate"])
def test_an_update_never_waits_for_the_device(kind: str, more: str) -> None:
    agent = built(kind)
    config = replace(LEARNER, accumulate=2 if more == "accumulate" else 1)
    config = replace(config, precision="bfloat16" if more == "bfloat16" else "float32")
    ensemble = Disagreement(agent.action_space, agent.config, ExplorationConfig(disagreement=1.0))
    held = Anchor(agent.encoder, agent.rssm, AnchorConfig(weight=1.0))
    step = DreamerStep(
        agent, config, 0, ensemble if more == "exploration" else None, held if more == "anchor" else None
    )
    step(random_batch(agent))  # what is set up once
    batch = step._continued(random_batch(agent))
    draws = step.draws(*batch.steps["is_first"].shape)
    with Rules() as rules:
        step._replayable((batch, draws))
    assert rules.operators > 500 and not rules.broken, rules.broken


def test_the_rules_find_what_waits() -> None:
    x = torch.arange(4.0)
    with Rules() as rules:
        x.mean().item()
        x[x > 1]
        torch.tensor([1.0])
    assert len(rules.broken) == 3, rules.broken


def test_a_replay_is_the_update_itself() -> None:
    plain, replayed = built("vector"), built("vector")
    replayed.load_state_dict(plain.state_dict())
    steps = DreamerStep(plain, LEARNER, 3), DreamerStep(replayed, LEARNER, 3)
    recorded = steps[1].recorded = Recorded(steps[1]._replayable, Again)
    kept = []
    for number in range(WARM_UP + 4):
        assert recorded.recorded is (number > WARM_UP)
        batch = random_batch(plain, seed=number)
        batch = batch._replace(continues=torch.tensor([number % 2 == 1, False]))
        mine, other = (step(copy.deepcopy(batch)) for step in steps)
        assert mine.metrics.keys() == other.metrics.keys()
        kept.append((mine.metrics, other.metrics))
        for a, b in zip(
            pytree.tree_leaves((mine.latents, mine.carry)),
            pytree.tree_leaves((other.latents, other.carry)),
            strict=True,
        ):
            assert torch.equal(a, b), number
        assert torch.equal(plain.model_loss(mine.output.losses), plain.model_loss(other.output.losses))
        assert same(plain, replayed), number
    for before, after in kept:  # later replays do not overwrite metrics
        assert all(torch.equal(value.float(), after[key]) for key, value in before.items())


def test_other_shapes_than_the_recorded_ones_are_plain_updates() -> None:
    plain, replayed = built("vector"), built("vector")
    replayed.load_state_dict(plain.state_dict())
    steps = DreamerStep(plain, LEARNER, 3), DreamerStep(replayed, LEARNER, 3)
    steps[1].recorded = Recorded(steps[1]._replayable, Again)
    for number, rows in enumerate([2] * (WARM_UP + 2) + [3, 2]):
        for step in steps:
            step.carry = None  # of other rows
            step(random_batch(plain, rows=rows, seed=number))
    assert same(plain, replayed)


def test_only_cuda_records() -> None:
    assert DreamerStep(built("vector"), replace(LEARNER, cuda_graph=True)).recorded is None


class Refusing(Again):
    def record(self, function: Callable[[], Any]) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")


def test_what_cannot_be_recorded_names_the_remedy() -> None:
    step = DreamerStep(built("vector"), LEARNER)
    step.recorded = Recorded(step._replayable, Refusing)
    for number in range(WARM_UP):
        step(random_batch(step.agent, seed=number))
    with pytest.raises(RecordingError, match=r"\(operation not permitted .*--learner.cuda-graph False makes plain"):
        step(random_batch(step.agent))
