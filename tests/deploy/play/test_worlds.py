"""Worlds: each its own, with recordings to follow, previews, and a measure of drift."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from deploy.play.recordings import Recording
from deploy.play.world import PREVIEW, World, residual
from tests.deploy.play.written_worlds import SMALLEST, fresh, small_game
from world_models.genie.dynamics import Sampling
from world_models.protocol import leaves


def test_worlds_of_one_model_are_separate() -> None:
    game = small_game()
    mine, other = game.begin(0, 3), game.begin(0, 3)
    before = [leaf.clone() for leaf in leaves(other.state)]
    assert np.array_equal(mine.frame, other.frame)
    for _ in range(6):  # further than the model remembers
        mine.step(1)
    assert mine.steps == 6 and other.steps == 0 and mine.frame.shape == (16, 16, 3)
    assert all(torch.equal(a, b) for a, b in zip(before, leaves(other.state), strict=True))
    for _ in range(6):
        other.step(1)
    assert not np.array_equal(mine.frame, other.frame)  # draws of their own


def test_the_same_world_is_the_same_again() -> None:
    model, (recording, *_) = fresh(), small_game().recordings
    one, two = (World(model, recording, 2, Sampling(steps=2), seed=5) for _ in range(2))
    for action in (0, 2, 1, 1):
        one.step(action)
        two.step(action)
    assert np.array_equal(one.frame, two.frame)


def test_a_recording_is_followed_until_it_ends_or_the_player_leaves_it() -> None:
    game = small_game()
    recording = game.recordings[0]
    length = len(recording.frames)
    assert length == 16 and recording.begins == 3
    world = game.begin(0, 10)
    assert recording.actions is not None and recording.actions.shape == (15,)
    for step in range(1, 6):
        assert world.follow()
        truth = world.truth
        assert truth is not None and np.array_equal(truth, recording.frames[10 + step].numpy())
    assert world.left is None and not world.follow() and world.steps == 5
    world.step(0)
    assert world.truth is None and world.left == 6


def test_inferred_actions_do_not_depend_on_where_clips_are_cut() -> None:
    model, clip = fresh(), SMALLEST.frames
    frames = torch.randint(0, 256, (2 * clip - 1, 16, 16, 3), dtype=torch.uint8)
    found = Recording(frames).actions_for(model)
    first, second = (model.infer_actions(frames[None, at : at + clip])[0] for at in (0, clip - 1))
    assert torch.equal(found, torch.cat([first, second]))
    assert Recording(frames[:1]).actions_for(model).shape == (0,)


def test_previews_show_what_each_action_does_first() -> None:
    game = small_game(temperature=0.0)
    world = game.begin(0, 3)
    previews = list(world.previews())
    assert len(previews) == PREVIEW and {one.shape for one in previews} == {(3, 16, 16, 3)}
    for action in range(3):
        other = game.begin(0, 3)
        for picture in previews[:3]:
            other.step(action)
            assert np.array_equal(other.frame, picture[action])
    assert world.steps == 0


def test_drift_is_what_the_tokenizer_loses_more_than_at_the_start() -> None:
    world = small_game().begin(0, 3)
    assert world.drift() == 0
    world.step(1)
    frame = world.state.frame
    again = world.model.decode(world.model.encode(frame[:, None]))[:, 0]
    lost = float(((again.float() - frame.float()) / 255).square().mean())
    assert residual(world.model, frame) == pytest.approx(-10 * math.log10(lost), abs=1e-4)
    first = world.recording.frames[None, 3:4]
    usual = residual(world.model, world.model.decode(world.model.encode(first))[:, 0])
    assert world.drift() == pytest.approx(usual + 10 * math.log10(lost), abs=1e-4)


def test_worlds_with_real_actions_follow_the_recorded_ones() -> None:
    game = small_game(config=replace(SMALLEST, real_actions=5))
    recording = game.recordings[0]
    assert recording.actions is not None and recording.actions.shape == (15, 5)
    assert torch.equal(recording.actions.sum(1), torch.ones(15))
    world = game.begin(0, 3)
    followed, left = world.follow(), world.left
    assert followed and left is None
    world.step(4)
    assert world.left == 2 and len(next(world.previews())) == 5
