"""The scan as one autograd node against the same equations written plainly, in float64."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from world_models.distributions import one_hot
from world_models.dreamer.config import RSSMConfig
from world_models.dreamer.recurrence import MANY_ROWS
from world_models.dreamer.rssm import RSSM, Sequence, State
from world_models.layers import NORM_EPS, BlockLinear, Dense, NormSilu

ROWS, TIME, TOKENS, ACTION = 3, 5, 7, 2
CONFIG = RSSMConfig(deter=8, hidden=6, stoch=3, classes=4, blocks=2, unimix=0.2)
SHAPES = [(1, 1, 2), (1, 1, 1), (2, 3, 2), (0, 1, 4)]  # dynamics and posterior layers, blocks


def build(dynamics: int, posterior: int, blocks: int, dtype: torch.dtype = torch.float64) -> RSSM:
    torch.manual_seed(0)
    rssm = RSSM(replace(CONFIG, dynamics_layers=dynamics, posterior_layers=posterior, blocks=blocks), ACTION, TOKENS)
    for parameter in rssm.parameters():  # biases and gains too
        torch.nn.init.normal_(parameter, 0.3, 0.5)
    return rssm.to(dtype)


def inputs(forced: bool, dtype: torch.dtype = torch.float64) -> tuple[State, list[Tensor]]:
    torch.manual_seed(1)
    shape = (ROWS, TIME, CONFIG.stoch)
    stoch = one_hot(torch.randint(CONFIG.classes, shape[::2]), CONFIG.classes).to(dtype)
    state = State(torch.rand(ROWS, CONFIG.deter, dtype=dtype) - 0.5, stoch)
    reset = torch.zeros(ROWS, TIME, dtype=torch.bool)
    reset[0, 0] = reset[1, 3] = reset[2, 2:] = True
    draw = torch.randint(CONFIG.classes, shape) if forced else torch.rand(shape)
    action = 2 * torch.randn(ROWS, TIME, ACTION, dtype=dtype)
    return state, [torch.randn(ROWS, TIME, TOKENS, dtype=dtype), action, reset, draw]


def norm(x: Tensor, layer: NormSilu) -> Tensor:
    return F.silu(x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS) * layer.weight)


def dense(x: Tensor, layer: Dense) -> Tensor:
    return norm(F.linear(x, layer.linear.weight, layer.linear.bias), layer.norm)


def block_linear(x: Tensor, layer: BlockLinear, shared: Tensor | None) -> Tensor:
    parts = [torch.cat([part, *([] if shared is None else [shared])], -1) for part in x.chunk(layer.blocks, -1)]
    return torch.cat([part @ kernel for part, kernel in zip(parts, layer.weight, strict=True)], -1) + layer.bias


def plain(rssm: RSSM, state: State, given: list[Tensor], index: Tensor) -> list[Tensor]:
    """Deter, stoch and posterior logits, from forced latents."""
    tokens, action, reset, _ = given
    c, (deter, stoch), out = rssm.config, state, []
    action = action / action.detach().abs().clamp_min(1)
    for t in range(tokens.shape[1]):
        keep = (~reset[:, t, None]).double()
        deter = deter * keep
        inside = (deter, stoch.flatten(1) * keep, action[:, t] * keep)
        layers = (rssm.deter_in, rssm.stoch_in, rssm.action_in)
        shared = torch.cat([dense(x, layer) for x, layer in zip(inside, layers, strict=True)], -1)
        x = deter
        for i, layer in enumerate(rssm.dynamics_layers()):
            x = norm(block_linear(x, layer.linear, None if i else shared), layer.norm)
        gates = block_linear(x, rssm.gru, None if c.dynamics_layers else shared)
        each = gates.unflatten(-1, (c.blocks, 3, -1)).unbind(-2)
        r, candidate, u = (gate.flatten(1) for gate in each)
        u = torch.sigmoid(u - 1)
        deter = u * torch.tanh(torch.sigmoid(r) * candidate) + (1 - u) * deter
        hidden = torch.cat([deter, tokens[:, t]], -1)
        for posterior in rssm.posterior_mlp.layers():
            hidden = dense(hidden, posterior)
        logits = F.linear(hidden, rssm.posterior_out.weight, rssm.posterior_out.bias).unflatten(-1, (c.stoch, -1))
        probs = (1 - c.unimix) * logits.softmax(-1) + c.unimix / c.classes
        stoch = one_hot(index[:, t], c.classes) + probs - probs.detach()
        out.append((deter, stoch, logits))
    return [torch.stack(parts, 1) for parts in zip(*out, strict=True)]


def total(parts: list[Tensor], weights: list[Tensor]) -> Tensor:
    return torch.stack([(x * weight).sum() for x, weight in zip(parts, weights, strict=True)]).sum()


def observed(found: Sequence) -> list[Tensor]:
    return [found.deter, found.stoch, found.posterior_logits]


@pytest.mark.parametrize("forced", [False, True], ids=["drawn", "forced"])
@pytest.mark.parametrize("shape", SHAPES)
def test_states_and_all_gradients_are_those_of_the_equations(shape: tuple[int, int, int], forced: bool) -> None:
    rssm, (state, given) = build(*shape), inputs(forced)
    needed = [*state, *given[:2], *rssm.parameters()]
    for x in (*state, *given[:2]):
        x.requires_grad_()
    found = rssm.observe(state, *given)
    if forced:
        assert torch.equal(found.indices, given[3])
    expected = plain(rssm, state, given, found.indices)
    weights = [torch.randn_like(x) for x in expected]
    losses = [total(parts, weights) for parts in (observed(found), expected)]
    for ours, theirs in zip(observed(found), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)
    grads = [torch.autograd.grad(loss, needed, allow_unused=True) for loss in losses]
    assert sum(grad is not None for grad in grads[0]) > 15
    for ours, theirs in zip(*grads, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or theirs is None or torch.allclose(ours, theirs, rtol=1e-9, atol=1e-11)


def test_an_output_without_gradient_counts_as_zero() -> None:
    rssm, (state, given) = build(1, 1, 2), inputs(forced=True)
    loss = rssm.observe(state, *given).posterior_logits[:, 1].sum()
    expected = plain(rssm, state, given, given[3])[2][:, 1].sum()
    ours, theirs = (torch.autograd.grad(x, rssm.gru.weight)[0] for x in (loss, expected))
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_step_by_step_is_the_whole_scan() -> None:
    rssm, (state, given) = build(1, 1, 2, torch.float32), inputs(False, torch.float32)
    whole = rssm.observe(state, *given)
    for t in range(TIME):
        state, index = rssm.observe_step(state, *(x[:, t] for x in given))
        assert torch.allclose(state.deter, whole.deter[:, t], atol=1e-6)
        assert torch.equal(state.stoch, whole.stoch[:, t]) and torch.equal(index, whole.indices[:, t])


@pytest.mark.parametrize("rows", [3, MANY_ROWS])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_without_a_past_is_the_core(shape: tuple[int, int, int], rows: int) -> None:
    rssm = build(*shape)
    deter, stoch = (torch.randn(rows, width, dtype=torch.float64) for width in (CONFIG.deter, 12))
    embedded, out = rssm.embed_action(torch.randn(rows, ACTION, dtype=torch.float64)), torch.empty_like(deter)
    with torch.no_grad():
        rssm.steps(rows).core(0, torch.cat([deter, stoch], -1), rssm.action_part(embedded), out)
    assert torch.allclose(out, rssm.core(deter, stoch, embedded).double(), atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_products_give_nearly_the_same(shape: tuple[int, int, int]) -> None:
    rssm, (state, given) = build(*shape, torch.float32), inputs(True, torch.float32)
    results = []
    for enabled in (False, True):
        rssm.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found = observed(rssm.observe(state, *given))
        total(found, found).backward()
        results.append((found, [p.grad for p in rssm.parameters() if p.grad is not None]))
    (exact, exact_grads), (narrow, narrow_grads) = results
    assert all(x.dtype == torch.float32 for x in narrow)
    assert all(torch.allclose(a, b, atol=0.1, rtol=0.05) for a, b in zip(exact, narrow, strict=True))
    for a, b in zip(exact_grads, narrow_grads, strict=True):
        assert b.dtype == torch.float32 and F.cosine_similarity(a.flatten(), b.flatten(), 0) > 0.99


def test_nothing_waits_for_values() -> None:
    rssm, (state, given) = build(1, 1, 2, torch.float32), inputs(False, torch.float32)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:  # refuses whatever depends on the content of a tensor
        state, given = State(*map(fake.from_tensor, state)), [fake.from_tensor(x) for x in given]
        found = rssm.observe(state, *given)
        grads = torch.autograd.grad(total(*[observed(found)] * 2), rssm.gru.weight)
        with torch.no_grad():
            rssm.steps(ROWS).core(0, fake.from_tensor(torch.ones(ROWS, 20)), torch.ones(ROWS, 8), torch.empty(ROWS, 8))
    assert found.deter.shape == (ROWS, TIME, CONFIG.deter) and grads[0].shape == rssm.gru.weight.shape
