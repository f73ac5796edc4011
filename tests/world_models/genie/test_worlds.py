import jaxtyping
import pytest
import torch

from tests.world_models.genie.small import clips, small_genie
from world_models.genie.dynamics import Sampling
from world_models.genie.genie import Genie
from world_models.protocol import leaves, map_state

WORLDS = [{}, {"conditioning": "add"}, {"conditioning": "none"}, {"kind": "fsq"}]
LIKELIEST = Sampling(steps=3, temperature=0.0)


@pytest.mark.parametrize("options", WORLDS)
def test_frames_depend_on_earlier_ones_alone(options: dict) -> None:
    model = small_genie(**options)
    x = clips()
    changed = x.clone()
    changed[:, 2] = 255 - changed[:, 2]
    for tokens, other in ((model.encode(x), model.encode(changed)),):
        assert torch.equal(tokens[:, :2], other[:, :2]) and not torch.equal(tokens[:, 2:], other[:, 2:])
    tokens = model.encode(x)
    moved = tokens.clone()
    moved[:, 2] = (moved[:, 2] + 1) % 16
    assert torch.equal(model.decode(tokens)[:, :2], model.decode(moved)[:, :2])
    actions = model.vectors(torch.tensor([[0, 1, 2]] * 2))
    with torch.no_grad():
        logits, others = (model.dynamics(x, actions, torch.zeros_like(x).bool()) for x in (tokens, moved))
    assert torch.equal(logits[:, :2], others[:, :2]) and not torch.equal(logits[:, 3], others[:, 3])


@pytest.mark.parametrize("options", WORLDS)
def test_a_frame_more_costs_one_frame_and_is_the_same(options: dict) -> None:
    model = small_genie(**options)
    x, actions = clips(), torch.tensor([[0, 1, 2], [2, 0, 1]])
    tokens, vectors = model.encode(x), model.vectors(actions)
    conditions = model.dynamics.conditions(vectors)
    with torch.no_grad():
        whole = model.dynamics(tokens, vectors, torch.zeros_like(tokens).bool())
        past, before = None, None
        for t in range(4):
            logits, past = model.dynamics.extend(tokens[:, t : t + 1], before, conditions[:, t : t + 1], past, t)
            before = tokens[:, t]
            assert torch.allclose(logits[:, 0], whole[:, t], atol=1e-5)
    frames, past = model.tokenizer.extend(tokens[:, :3], None, 0)
    last, _ = model.tokenizer.extend(tokens[:, 3:], past, 3)
    assert torch.equal(torch.cat([frames, last], 1), model.decode(tokens))


@pytest.mark.parametrize("conditioning", ["prepend", "add", "none"])
def test_actions_count_unless_they_are_not_shown(conditioning: str) -> None:
    model = small_genie(conditioning=conditioning)
    torch.nn.init.normal_(model.dynamics.to_embedding.weight)  # 0 in a fresh model, which copies
    tokens, actions = model.encode(clips()), torch.tensor([[0, 1, 2], [2, 0, 1]])
    with torch.no_grad():
        one, other = (
            model.dynamics(tokens, model.vectors(a), torch.ones_like(tokens).bool()) for a in (actions, 2 - actions)
        )
    assert torch.equal(one, other) == (conditioning == "none")


def test_batches_that_do_not_fit_are_refused() -> None:
    model = small_genie()
    with pytest.raises(ValueError, match="A batch of no worlds was given"):
        model.generate(clips()[:0], torch.zeros(0, 2, dtype=torch.long))
    jaxtyping.config.update("jaxtyping_disable", True)  # as users have it: types are checked in tests alone
    try:
        for wrong in (torch.tensor([[0, 1]]), torch.tensor([0, 1])):
            with pytest.raises(ValueError, match=r"actions have the shape .* for 2 worlds; pass \[2 K\], or \[2 K "):
                model.generate(clips(), wrong)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_worlds_go_on_beyond_their_memory_and_repeat() -> None:
    model = small_genie()
    actions = torch.randint(0, 3, (2, 9), generator=torch.Generator().manual_seed(1))
    one, two = (model.generate(clips(), actions, torch.Generator().manual_seed(5)) for _ in range(2))
    assert one.shape == (2, 9, 8, 8, 3) and one.dtype == torch.uint8 and torch.equal(one, two)
    state = model.start(clips())
    for action in actions.unbind(1):
        state = model.step(state, action, sampling=LIKELIEST)
    assert state.dynamics[0].keys.shape[-2] == 3 and int(state.time[0]) == 12


def test_rows_are_separate_worlds() -> None:
    model = small_genie()
    both = model.generate(clips(), torch.tensor([[0, 1], [2, 2]]), sampling=LIKELIEST)
    for row in range(2):
        alone = model.generate(clips()[row : row + 1], torch.tensor([[[0, 1], [2, 2]][row]]), sampling=LIKELIEST)
        assert torch.equal(both[row : row + 1], alone)
    state = model.start(clips())
    copies = map_state(lambda part: part.repeat_interleave(2, 0), state)
    assert {len(part) for part in leaves(copies)} == {4}


def test_sampling_unmasks_everything_and_follows_its_temperature() -> None:
    model = small_genie()
    state = model.start(clips())
    for steps in (1, 2, 4, 25):
        tokens = model.step(state, torch.tensor([0, 1]), sampling=Sampling(steps=steps, temperature=1.0)).tokens
        assert int(tokens.min()) >= 0 and int(tokens.max()) < 16  # no mask is left
    hot = Sampling(steps=3, temperature=20.0)
    draws = {tuple(model.step(state, torch.tensor([0, 1]), sampling=hot).tokens.flatten().tolist()) for _ in range(8)}
    likeliest = {
        tuple(model.step(state, torch.tensor([0, 1]), sampling=LIKELIEST).tokens.flatten().tolist()) for _ in range(8)
    }
    assert len(draws) > 1 and len(likeliest) == 1


def test_real_actions_are_vectors_that_have_to_be_given() -> None:
    model = small_genie(real_actions=5)
    assert model.latent_action is None
    with pytest.raises(ValueError, match="cannot be inferred; pass the actions"):
        model.start(clips())
    state = model.start(clips(), torch.zeros(2, 3, 5))
    assert model.step(state, torch.zeros(2, 5), sampling=LIKELIEST).frame.shape == (2, 8, 8, 3)
    with pytest.raises(ValueError, match="Actions have 4 numbers; this world takes 5"):
        model.step(state, torch.zeros(2, 4))


def test_what_does_not_fit_is_refused() -> None:
    model = small_genie()
    with pytest.raises(ValueError, match=r"uint8 \[B T 8 8 3\]"):
        model.start(clips(size=16))
    with pytest.raises(ValueError, match=r"\[3\] are not all in 0 to 2"):
        model.step(model.start(clips()), torch.tensor([3, 3]))
    with pytest.raises(ValueError, match="steps=0 must be at least 1"):
        Sampling(steps=0)


def test_training_leaves_the_frozen_parts_alone() -> None:
    model = small_genie().train()
    frozen = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("dynamics.")}
    masked = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.7
    masked[:, 0] = False
    loss = model.losses(clips(), masked)["cross_entropy"]
    loss.mean().backward()
    assert loss.shape == (2,)
    assert all(torch.equal(frozen[k], model.state_dict()[k]) for k in frozen)
    assert all(p.grad is None for p in model.tokenizer.parameters())
    assert all(p.grad is not None for p in model.dynamics.parameters())


def test_a_fresh_world_stands_still() -> None:
    model = small_genie()
    frames = model.generate(clips(), torch.tensor([[0, 1, 2]] * 2), sampling=LIKELIEST)
    tokens = model.encode(clips())[:, -1:]
    state = model.start(clips())
    for action in (0, 1, 2):
        state = model.step(state, torch.tensor([action, action]), sampling=LIKELIEST)
        assert torch.equal(state.tokens[:, None], tokens)
    assert frames.shape == (2, 3, 8, 8, 3)


def test_only_masked_tokens_count() -> None:
    model: Genie = small_genie()
    tokens = model.encode(clips())
    actions = model.vectors(torch.tensor([[0, 1, 2]] * 2))
    masked = torch.zeros(2, 4, 4, dtype=torch.bool)
    masked[0, 1, 2] = True
    with torch.no_grad():
        loss = model.dynamics.losses(tokens, actions, masked)["cross_entropy"]
        expected = -model.dynamics(tokens, actions, masked)[0, 1, 2].log_softmax(-1)[tokens[0, 1, 2]]
    assert torch.allclose(loss, torch.stack([expected, torch.tensor(0.0)]))
