"""What is counted without numbers is what is done with them."""

from dataclasses import replace

import psutil
import pytest
import torch

from learner.config import LearnerConfig
from learner.cost.counting import Counting, Kind, Layout, Work, total
from learner.cost.rehearsal import Networks, Rehearsal, fake_batch, rehearse
from learner.dreamer_step import DreamerStep
from tests.world_models.small_agent import CONFIG, CONTINUOUS, DISCRETE, IMAGE, VECTOR, build
from world_models.dreamer.anchor import Anchor
from world_models.dreamer.config import AnchorConfig, ExplorationConfig, sized
from world_models.dreamer.disagreement import Disagreement
from world_models.space import Spaces

LEARNER = LearnerConfig(batch_size=2, batch_length=4, device="cpu")
ACTION: Spaces = {"steer": CONTINUOUS, "button": DISCRETE}
SEEN: Spaces = {"vector": VECTOR, "image": IMAGE}


def networks(everything: bool) -> Networks:
    agent = build(SEEN, ACTION)
    if not everything:
        return Networks(agent)
    return Networks(
        agent,
        Disagreement(ACTION, CONFIG, ExplorationConfig(disagreement=1.0, members=2)),
        Anchor(agent.encoder, agent.rssm, AnchorConfig(weight=1.0)),
    )


def rehearsed(everything: bool, on_gpu: bool = False) -> Rehearsal:
    return rehearse(lambda: networks(everything), LEARNER, on_gpu=on_gpu, cache=1 << 20)


def figures(stages: dict[str, Work]) -> dict[str, tuple[int, int, int, int]]:
    return {name: (work.calls, work.kernels, work.flops, work.nbytes) for name, work in stages.items()}


@pytest.mark.parametrize("everything", [False, True])
def test_a_rehearsal_does_what_an_update_does(everything: bool) -> None:
    counting, found = Counting(), rehearsed(everything)
    with counting:
        built = networks(everything)
        step = DreamerStep(built.agent, LEARNER, 0, *built[1:])
        batch = fake_batch(built.agent, LEARNER)
    counting.memory.peak = counting.memory.now  # building makes copies that an update does not
    real = counting.count(lambda: step(batch))
    assert figures(found.stages) == figures(real)
    usual = {"encode", "observe", "predict", "imagine", "judge", "losses", "backward", "optimize"}
    assert usual | ({"anchor", "explore"} if everything else set()) == {*real} - {"prepare"}
    assert sum(found.memory) == pytest.approx(counting.memory.peak, rel=0.02)


def test_parameters_moments_and_gradients_are_those_of_what_is_trained() -> None:
    found, agent = rehearsed(False), build(SEEN, ACTION)
    trained = sum(p.numel() for p in agent.parameters() if p.requires_grad)
    assert found.trained == trained
    assert found.memory.gradients == 4 * trained and found.memory.moments == 8 * trained
    assert sum(found.parameters.values()) == sum(p.numel() for p in agent.parameters())
    acting = (agent.encoder, agent.rssm, agent.policy)
    assert found.acting == sum(p.numel() for part in acting for p in part.parameters())


def products(stages: dict[str, Work]) -> list[Kind]:
    return [kind for kind in total(stages.values()).kinds if kind.flops]


def test_a_gpu_computes_products_in_bfloat16_and_in_one_piece() -> None:
    config = replace(LEARNER, batch_size=9, batch_length=8)  # 72 images, more than a chunk
    here, there = (rehearse(lambda: networks(False), config, on_gpu=on, cache=1 << 20) for on in (False, True))
    assert total(there.stages.values()).flops == pytest.approx(total(here.stages.values()).flops, rel=0.02)
    assert there.stages["judge"].calls < here.stages["judge"].calls
    for stages, expected in ((here.stages, {torch.float32}), (there.stages, {torch.bfloat16})):
        kinds = [one.dtype for kind in products(stages) for one in kind.arguments[0] if isinstance(one, Layout)]
        assert {*kinds} == expected


def test_nothing_large_is_allocated() -> None:
    model = replace(sized("size200m"), imagination_length=2)
    before = psutil.Process().memory_info().rss
    found = rehearse(lambda: Networks(build({"vector": VECTOR}, ACTION, model)), LEARNER, on_gpu=False, cache=1 << 20)
    assert found.trained > 100_000_000
    assert psutil.Process().memory_info().rss - before < 2 * found.trained, "half of the parameters would be as much"
