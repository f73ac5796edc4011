"""Presets have the published settings, and tasks the preset of their suite."""

import pytest

from actors.config import AtariConfig
from deploy.wiring.config import RunConfig
from deploy.wiring.fields import with_fields
from deploy.wiring.presets import apply, options_for


def atari(preset: str = "") -> RunConfig:
    return apply(RunConfig(task="atari_pong"), preset)


def test_atari_is_100k_by_default() -> None:
    config = atari()
    assert config == atari("atari100k")
    assert (config.frames, config.learner.train_ratio, config.actor.environments) == (400_000, 256, 1)
    assert (config.environment.action_repeat, config.environment.image_size) == (4, (64, 64))
    assert config.environment.atari == AtariConfig(
        sticky=0.0, noops=30, actions="needed", color="rgb", resize="bilinear", life_loss="none", frame_limit=108_000
    )


def test_atari_200m_is_gray_and_sticky_with_all_actions() -> None:
    config = atari("atari200m")
    assert (config.frames, config.learner.train_ratio, config.actor.environments) == (204_000_000, 32, 16)
    assert (config.environment.action_repeat, config.environment.image_size) == (4, (96, 96))
    assert config.environment.atari == AtariConfig(
        sticky=0.25, noops=30, actions="full", color="gray", resize="bilinear", life_loss="none", frame_limit=108_000
    )


def test_quick_keeps_the_protocol_of_atari() -> None:
    assert atari("quick").environment == atari().environment
    assert apply(RunConfig(task="gym:CartPole-v1"), "quick").environment.action_repeat == 1


def test_options_of_atari_have_dotted_names() -> None:
    config = with_fields(atari("atari200m"), {"environment.atari.sticky": 0.0, "environment.atari.life_loss": "reset"})
    assert config.environment.atari.sticky == 0
    assert options_for(config) == [
        "--preset", "atari200m", "--environment.atari.life-loss", "reset", "--environment.atari.sticky", "0.0",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="environment.atari.sticky"):
        with_fields(config, {"environment.atari.stickyy": 0.0})
