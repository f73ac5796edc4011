"""Atari: seeds, no-ops, sticky actions, lives and images, beside an emulator that is stepped by hand."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from actors.config import AtariConfig, EnvironmentConfig
from actors.environment import Step
from actors.envs import make, task_names
from actors.envs.atari.resampling import UNIT, Resampler, Resampling, weights
from actors.vector import VectorEnvironment

ale_py = pytest.importorskip("ale_py", reason="Atari is an extra: pip install 'nexus-worlds[atari]'")
PUBLISHED = EnvironmentConfig(action_repeat=4)
NEEDED = {
    "pong": ["NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"],
    "breakout": ["NOOP", "FIRE", "RIGHT", "LEFT"],
    "freeway": ["NOOP", "UP", "DOWN"],
}
FULL = [
    "NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT", "UPFIRE", "RIGHTFIRE",
    "LEFTFIRE", "DOWNFIRE", "UPRIGHTFIRE", "UPLEFTFIRE", "DOWNRIGHTFIRE", "DOWNLEFTFIRE",
]  # fmt: skip


def atari(game: str, config: EnvironmentConfig = PUBLISHED, **options: Any) -> Any:
    return make(f"atari_{game}", replace(config, atari=AtariConfig(**options)))


def act(environment: Any, action: int) -> Step:
    step: Step = environment.step({"action": np.int32(action)})
    return step


def emulator(game: str) -> Any:
    raw = ale_py.ALEInterface()
    raw.setFloat("repeat_action_probability", 0.0)
    raw.loadROM(ale_py.roms.get_rom_path(game))
    raw.reset_game()
    return raw


def noops(environment: Any, seed: int) -> int:
    before = emulator_frames(environment, -1)
    environment.reset(seed)
    return emulator_frames(environment, before)


def emulator_frames(environment: Any, before: int) -> int:
    """Frames since the beginning of the game, or that of the beginning."""
    raw = environment.inner.raw
    if before < 0:
        raw.restoreState(environment.inner._beginning)
        return int(raw.getFrameNumber())
    return int(raw.getFrameNumber()) - before


def test_tasks_are_the_games_of_one_player_under_the_names_of_papers() -> None:
    tasks = [task for task in task_names() if task.startswith("atari_")]
    assert len(tasks) == 104
    assert {"atari_pong", "atari_jamesbond", "atari_montezuma_revenge", "atari_up_n_down"} <= set(tasks)
    for game in ("combat", "joust", "maze_craze", "warlords", "pnog"):  # the emulator exits when it loads the former
        with pytest.raises(ValueError, match=f"Unknown task 'atari_{game}'"):
            make(f"atari_{game}")
    with pytest.raises(ValueError, match="atari_pong"):
        make("atari_pnog")
    assert make("atari_james_bond").action_space == make("atari_jamesbond").action_space


@pytest.mark.parametrize("game", NEEDED)
def test_needed_and_full_actions_have_the_usual_meanings(game: str) -> None:
    needed, full = atari(game), atari(game, actions="full")
    assert [action.name for action in needed.inner.actions] == NEEDED[game]
    assert [action.name for action in full.inner.actions] == FULL
    assert (needed.action_space["action"].classes, full.action_space["action"].classes) == (len(NEEDED[game]), 18)


def test_a_step_is_four_frames_and_the_image_the_maximum_of_the_last_two() -> None:
    environment, raw = atari("space_invaders", noops=0), emulator("space_invaders")
    assert environment.frames_per_step == 4
    first = environment.reset(0)
    np.testing.assert_array_equal(environment.render(), raw.getScreenRGB())
    assert first.observation["image"].shape == (64, 64, 3)
    blinked = 0
    for action in np.random.default_rng(0).integers(6, size=150):
        step, screens, reward = act(environment, action), [], 0
        for _ in range(4):
            reward += raw.act(environment.inner.actions[action])
            screens.append(raw.getScreenRGB())
        expected = np.maximum(screens[2], screens[3])
        blinked += not np.array_equal(expected, screens[3])
        np.testing.assert_array_equal(environment.render(), expected)
        small = Image.fromarray(expected).resize((64, 64), Image.Resampling.BILINEAR)
        assert np.abs(step.observation["image"].astype(int) - np.asarray(small)).max() <= 2
        assert step.reward == reward
    assert blinked > 10


def test_the_first_image_is_the_maximum_of_two_frames_too() -> None:
    environment, raw = atari("space_invaders"), emulator("space_invaders")
    seed = next(seed for seed in range(100) if noops(environment, seed) > 1)
    count = noops(environment, seed)
    for _ in range(count - 1):
        raw.act(0)
    one = raw.getScreenRGB()
    raw.act(0)
    np.testing.assert_array_equal(environment.render(), np.maximum(one, raw.getScreenRGB()))


def test_episodes_begin_with_up_to_thirty_noops() -> None:
    environment = atari("pong", EnvironmentConfig(action_repeat=4, image_size=(4, 4)))
    counts = [noops(environment, seed) for seed in range(150)]
    assert (min(counts), max(counts)) == (0, 30)
    assert len(set(counts)) > 25
    none = atari("pong", noops=0)
    assert {noops(none, seed) for seed in range(5)} == {0}


@pytest.mark.parametrize(
    "game", ["pong", "freeway", "qbert", "kung_fu_master"]
)  # the last three remember across resets
@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_a_seed_determines_the_episode_whatever_came_before(game: str, sticky: float) -> None:
    environment, fresh = atari(game, sticky=sticky), atari(game, sticky=sticky)

    def play(one: Any, seed: int, steps: int) -> Iterator[Step]:
        yield one.reset(seed)
        for action in np.random.default_rng(seed).integers(3, size=steps):
            yield (step := act(one, action))
            if step.is_last:
                return

    first = list(play(environment, 3, 120))
    list(play(environment, 4, 250))
    for again in (list(play(environment, 3, 120)), list(play(fresh, 3, 120))):
        assert len(again) == len(first)
        for one, two in zip(first, again, strict=True):
            np.testing.assert_array_equal(one.observation["image"], two.observation["image"])
            assert one[1:] == two[1:]


def test_an_open_episode_is_restored_by_its_rows() -> None:
    makers = [partial(atari, "breakout", sticky=0.25), partial(atari, "breakout", sticky=0.25)]
    environments = VectorEnvironment(makers, run_seed=1)
    actions = np.random.default_rng(1).integers(4, size=(40, 2)).astype(np.int32)
    rows = [environments.step()]
    for action in actions[:30]:
        rows.append(environments.step({"action": action}))
    stored = {key: np.stack([row[key] for row in rows]) for key in rows[0]} | {"action": actions[:31]}
    restored = VectorEnvironment(makers, run_seed=1)
    for i in range(2):
        assert restored.restore(i, 0, {key: value[:, i] for key, value in stored.items()}), i
    for action in actions[30:]:
        expected, got = environments.step({"action": action}), restored.step({"action": action})
        for key, value in expected.items():
            np.testing.assert_array_equal(value, got[key])


def test_sticky_actions_stay_for_a_frame_at_their_rate() -> None:
    environment = atari("pong", EnvironmentConfig(image_size=(4, 4)), sticky=0.25)
    environment.reset(0)
    actions, strayed = environment.inner.actions, 0
    for frame in range(3000):
        act(environment, frame % 2)
        strayed += environment.inner._action != actions[frame % 2]
    # Of two actions in turn, the earlier one is in force when 0.25 stay and it was obeyed: q = 0.25 (1 - q).
    assert strayed / 3000 == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize(("life_loss", "expected"), [
    ("none", {"terminal": 1, "last": 1, "lives": 0}),
    ("discount", {"terminal": 5, "last": 1, "lives": 0}),
    ("reset", {"terminal": 1, "last": 1, "lives": 4}),
])  # fmt: skip
def test_what_a_lost_life_means(life_loss: str, expected: dict[str, int]) -> None:
    environment = atari("breakout", EnvironmentConfig(action_repeat=4, image_size=(4, 4)), life_loss=life_loss)
    environment.reset(0)
    flags = []
    for step in range(2000):
        flags.append(act(environment, step % 2)[2:4])  # FIRE serves; the ball is missed, with five lives
        if flags[-1][0]:
            break
    last, terminal = np.array(flags).T
    assert {"terminal": terminal.sum(), "last": last.sum(), "lives": environment.inner.raw.lives()} == expected
    assert terminal[-1]
    assert environment.reset(1).is_last is False and environment.inner.raw.lives() == 5


def test_the_frame_limit_truncates() -> None:
    environment = atari("pong", frame_limit=40)
    environment.reset(0)
    flags = [act(environment, 0)[2:4] for _ in range(10)]
    assert flags == [(False, False)] * 9 + [(True, False)]
    with pytest.raises(ValueError, match="reset"):
        act(environment, 0)


def test_gray_images_have_one_channel_of_luma() -> None:
    config = EnvironmentConfig(action_repeat=4, image_size=(96, 96))
    gray, rgb = atari("pong", config, color="gray"), atari("pong", config)
    one, three = gray.reset(0).observation["image"], rgb.reset(0).observation["image"]
    assert one.shape == (96, 96, 1)
    luma = three.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(one[..., 0] - luma).max() < 1.5
    assert atari("carnival", EnvironmentConfig(image_size=(0, 0))).reset(0).observation["image"].shape == (214, 160, 3)


@pytest.mark.parametrize("size", [(64, 64), (96, 84)])
@pytest.mark.parametrize("method", get_args(Resampling))
def test_weights_are_whole_and_sum_to_one(size: tuple[int, int], method: Resampling) -> None:
    for inputs, outputs in zip((210, 160), size, strict=True):
        matrix = weights(inputs, outputs, method)
        assert (matrix == np.round(matrix)).all() and (matrix >= 0).all()
        assert (matrix.sum(1) == UNIT).all()


@pytest.mark.parametrize("size", [(64, 64), (96, 84)])
def test_bilinear_is_that_of_pillow(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (210, 160, 3)).astype(np.uint8)
    small = Resampler((210, 160), size, "bilinear")(image)
    off = np.abs(small - np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)).astype(int))
    assert off.max() <= 2 and off.mean() < 0.5


def test_area_is_the_mean_of_what_a_pixel_covers() -> None:
    image = np.random.default_rng(0).integers(0, 256, (21, 16, 3)).astype(np.uint8)
    many = image.repeat(9, 0).repeat(7, 1).astype(float)  # every pixel as many times as makes the parts whole
    off = np.abs(Resampler((21, 16), (9, 7), "area")(image) - many.reshape(9, 21, 7, 16, 3).mean((1, 3)))
    assert off.max() <= 2


def test_halving_by_area_is_the_mean_of_four() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 12, 3)).astype(np.uint8)
    expected = image.reshape(10, 2, 6, 2, 3).mean((1, 3))
    np.testing.assert_array_equal(Resampler((20, 12), (10, 6), "area")(image), np.floor(expected + 0.5))


@pytest.mark.parametrize(("options", "message"), [
    ({"sticky": 1.0}, "environment.atari.sticky=1 must lie in"),
    ({"noops": -1}, "environment.atari.noops=-1 must be at least 0"),
    ({"frame_limit": 0}, "environment.atari.frame_limit=0 must be at least 1"),
    ({"actions": "some"}, "environment.atari.actions='some' is not one of"),
    ({"life_loss": "end"}, "environment.atari.life_loss='end' is not one of"),
])  # fmt: skip
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AtariConfig(**options)
