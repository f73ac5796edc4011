"""The Genie benchmark runs, its plain programs learn, and its frame without a cache is that with one."""

import json
from collections.abc import Iterable

import pytest
import torch

from tests.benchmarks import genie, genie_plain
from world_models.genie.dynamics import Sampling
from world_models.genie.genie import Genie


def test_the_last_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert genie.main(["--cases", "latent_action", "--rounds", "1"]) == 0
    table, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    case = report["cases"]["latent_action"]
    assert table.startswith("latent_action") and report["threads"] == 1
    assert case["of_public"] == pytest.approx(case["seconds"]["ours"] * case["gflops"] / 90 / 0.165)
    assert report["value"] == pytest.approx(case["ratio"] / case["limit"])


def size(parameters: Iterable[torch.nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)


def test_both_programs_have_parameters_of_the_same_number() -> None:
    c = genie.config()
    ours = Genie(c)
    tokenizer, actions = genie_plain.Tokenizer(c.tokenizer), genie_plain.LatentActions(c.latent_action)
    plain = genie_plain.Dynamics(c.dynamics, tokenizer, actions)
    assert ours.latent_action is not None
    codebook = c.tokenizer.quantizer.codes * c.tokenizer.quantizer.width  # a buffer of ours
    assert size(ours.tokenizer.parameters()) + codebook == pytest.approx(size(tokenizer.parameters()), rel=0.05)
    assert size(ours.latent_action.parameters()) == pytest.approx(size(actions.parameters()), rel=0.05)
    assert size(ours.dynamics.parameters()) == pytest.approx(size(plain.trained()), rel=0.05)


def test_the_plain_latent_actions_learn() -> None:
    torch.manual_seed(0)
    plain = genie_plain.LatentActions(genie.config().latent_action)
    inputs = genie.clips(4, 2), torch.rand(2, 3)
    step = genie_plain.step(plain.loss, list(plain.parameters()), *inputs)
    before = float(plain.loss(*inputs).detach())
    for _ in range(5):
        step()
    assert float(plain.loss(*inputs).detach()) < before


def test_a_frame_without_a_cache_is_the_same() -> None:
    torch.manual_seed(0)
    model, frames = Genie(genie.config(5)).eval(), genie.clips(3, 1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    action, likeliest = torch.tensor([2]), Sampling(steps=2, temperature=0.0)
    state = model.step(model.start(frames), action, sampling=likeliest)
    assert torch.equal(genie.Uncached(model, frames).step(action, likeliest), state.frame)
