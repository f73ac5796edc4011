"""Scores, intervals, trivial policies and videos."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import read_frames
from PIL import Image

from actors.batch_environment import episode_seed, score_text
from actors.config import EnvironmentConfig
from actors.envs import make
from actors.episode_metrics import achievement_score
from actors.evaluation import confidence_interval, describe_metrics, run_episodes
from actors.trivial_policies import RandomPolicy, ZeroPolicy
from actors.video import write_video
from world_models.space import Space

CARTPOLE = partial(make, "gym:CartPole-v1")
DISCRETE = {"action": Space(dtype=np.dtype(np.int32), shape=(), classes=2)}


def test_the_interval_of_a_mean() -> None:
    low, high = confidence_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764 * math.sqrt(2.5 / 5)
    assert (low, high) == (pytest.approx(3 - half, abs=1e-4), pytest.approx(3 + half, abs=1e-4))
    assert confidence_interval([0.0, 2.0]) == pytest.approx((1 - 12.7062, 1 + 12.7062), abs=1e-4)
    assert all(math.isnan(side) for side in confidence_interval([1.0]))


def test_small_scores_have_a_decimal_more() -> None:
    assert [score_text(score) for score in (0.956, 9.99, -9.5, 10.04, -1234.5)] == [
        "0.96", "9.99", "-9.50", "10.0", "-1,234.5"
    ]  # fmt: skip


def test_each_environment_plays_its_share() -> None:
    evaluation = run_episodes(
        [CARTPOLE] * 3, RandomPolicy(DISCRETE), episodes=7, seed=4, actions="random", first_index=50
    )
    assert [(e.env_index, e.episode) for e in evaluation.episodes] == [
        (50, 0), (51, 0), (52, 0), (50, 1), (51, 1), (52, 1), (50, 2),
    ]  # fmt: skip
    assert [e.seed for e in evaluation.episodes] == [
        episode_seed(4, e.env_index, e.episode) for e in evaluation.episodes
    ]
    assert evaluation.scores == evaluation.lengths  # CartPole pays 1 a frame
    assert evaluation.mean == pytest.approx(np.mean(evaluation.scores))
    low, high = evaluation.interval
    assert low < evaluation.mean < high
    assert f"mean {evaluation.mean:.1f}, 95 % interval [{low:.1f}, {high:.1f}], 7 episodes" in str(evaluation)
    assert evaluation.frames == []
    seeds = [e.seed for e in evaluation.episodes]
    assert evaluation.protocol == {"episodes": 7, "actions": "random", "seeds": seeds, "backend": "gymnasium"}


def test_metrics_have_intervals_and_rates_stay_within_0_and_1() -> None:
    lines = describe_metrics(
        {"is_success": [1] * 8 + [0] * 2, "solved": [1] * 5, "one": [2.5], "r": [1.0, 2.0, 6.0]}, 10
    )
    assert lines == [
        "is_success: mean 0.8, 95 % interval [0.49, 0.943]",  # Wilson 1927
        "solved: mean 1, 95 % interval [0.566, 1], 5 of 10 episodes",
        "one: mean 2.5, 1 of 10 episodes",
        "r: mean 3, 95 % interval [-3.57, 9.57], 3 of 10 episodes",
    ]
    assert run_episodes([CARTPOLE], RandomPolicy(DISCRETE), 2, 0).metrics == {}


def test_achievements_have_success_rates_and_crafters_score() -> None:
    metrics: dict[str, list[float]] = {
        "achievements/a": [2, 0, 0, 1],
        "achievements/b": [0, 0, 0, 0],
        "other": [9.0] * 4,
    }
    lines = describe_metrics(metrics, 4)
    assert lines[0].endswith(", unlocked in 2 episodes") and lines[1].endswith(", unlocked in 0 episodes")
    assert lines[2] == "other: mean 9, 95 % interval [9, 9]"
    # success rates of 50 % and 0 %: exp((ln 51 + ln 1) / 2) - 1
    assert lines[3] == "Crafter score (geometric mean of the success rates of all achievements): 6.14 %"
    assert achievement_score(metrics) == pytest.approx(51**0.5 - 1)
    assert achievement_score({"achievements/a": [3, 1]}) == pytest.approx(100)
    assert achievement_score({"is_success": [1.0]}) is None


def test_the_same_seed_gives_the_same_scores() -> None:
    scores = [run_episodes([CARTPOLE] * 2, RandomPolicy(DISCRETE), 4, seed).scores for seed in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]


def test_doing_nothing_scores_what_the_literature_says() -> None:
    config = EnvironmentConfig(action_repeat=2)
    environment = make("dmc_cartpole_swingup", config)
    evaluation = run_episodes(
        [partial(make, "dmc_cartpole_swingup", config)] * 2, ZeroPolicy(environment.action_space), 2, seed=0
    )
    assert evaluation.lengths == [1000, 1000]
    assert evaluation.mean < 1


def test_endless_episodes_are_reported() -> None:
    makers = [partial(make, "dmc_cartpole_swingup")]
    with pytest.raises(ValueError, match="more than 100 frames"):
        run_episodes(makers, ZeroPolicy(makers[0]().action_space), 1, seed=0, longest=100)


def test_asking_for_no_episode_is_an_error() -> None:
    with pytest.raises(ValueError, match="episodes=0"):
        run_episodes([CARTPOLE], RandomPolicy(DISCRETE), 0, seed=0)


def test_trivial_policies_stay_in_their_spaces() -> None:
    spaces = DISCRETE | {"force": Space(dtype=np.dtype(np.float32), shape=(2, 3), low=-1, high=1)}
    first = np.zeros(200, bool)
    _, drawn, latents = RandomPolicy(spaces, seed=1).act(None, {}, first, draw=5)
    assert latents == {}
    assert drawn["action"].dtype == np.int32 and set(drawn["action"]) == {0, 1}
    assert drawn["force"].dtype == np.float32 and drawn["force"].shape == (200, 2, 3)
    assert -1 <= drawn["force"].min() < -0.9 and 0.9 < drawn["force"].max() <= 1
    again = RandomPolicy(spaces, seed=1).act(None, {}, first, draw=5)[1]
    other = RandomPolicy(spaces, seed=1).act(None, {}, first, draw=6)[1]
    np.testing.assert_array_equal(drawn["force"], again["force"])
    assert not np.array_equal(drawn["force"], other["force"])
    assert all(not value.any() for value in ZeroPolicy(spaces).act(None, {}, first, 0)[1].values())


def test_an_episode_becomes_a_video(tmp_path: Path) -> None:
    evaluation = run_episodes([CARTPOLE] * 2, RandomPolicy(DISCRETE), 2, seed=0, video_episodes=1)
    assert len(evaluation.frames) == evaluation.lengths[0] + 1
    path = write_video(tmp_path / "videos" / "cartpole.mp4", evaluation.frames)
    reader = read_frames(str(path))
    details = next(reader)
    assert details["size"] == (600, 400)
    assert sum(1 for _ in reader) == len(evaluation.frames)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_small_pictures_are_enlarged(tmp_path: Path, suffix: str) -> None:
    frames = [np.full((63, 65, 3), value, np.uint8) for value in (0, 120, 250)]
    path = write_video(tmp_path / f"small{suffix}", frames, fps=10)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    if suffix == ".gif":
        with Image.open(path) as image:
            assert (image.size, image.n_frames) == ((325, 315), 3)  # type: ignore[attr-defined]
            assert image.info["duration"] == 100
    else:
        reader = read_frames(str(path))
        assert next(reader)["size"] == (324, 314)
        assert abs(np.frombuffer(list(reader)[1], np.uint8).mean() - 120) < 6


def test_a_video_goes_where_its_name_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frames = [np.zeros((64, 64, 3), np.uint8)] * 2
    assert write_video("gym:task.mp4", frames) == Path("gym:task.mp4")  # no protocol of ffmpeg's
    (tmp_path / "link.gif").symlink_to("target.gif")
    write_video("link.gif", frames)
    assert (tmp_path / "link.gif").is_symlink() and (tmp_path / "target.gif").stat().st_size
    assert {path.name for path in tmp_path.iterdir()} == {"gym:task.mp4", "link.gif", "target.gif"}


def test_bad_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name it \.mp4 or \.gif"):
        write_video(tmp_path / "a.avi", [np.zeros((8, 8, 3), np.uint8)])
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "a.mp4", [])
