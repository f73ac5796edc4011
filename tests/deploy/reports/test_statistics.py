"""Statistics over seeds and tasks: agreement with rliable, and literal numbers.

rliable 1.2.0 (arch 7.2.0) made the numbers here, in an environment of its own: arch does not import beside pandas 3.
"""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.reports.curves import Curve, load_baselines
from deploy.reports.statistics import (
    Statistic,
    band,
    band_of_rows,
    by_task,
    estimate,
    frames_to,
    improvement,
    normaliser,
    profile,
    resamples,
    score_at,
    summary,
)

BASELINES = Path(__file__).parents[4] / "shared" / "baselines"
RUNS_BY_TASKS = np.array(
    [
        [0.1, 1.2, 0.7, -0.3], [0.4, 0.9, 0.7, 0.2], [0.35, 2.5, 0.6, 0.0], [0.2, 1.1, 0.9, 0.5],
        [0.15, 1.0, 0.1, 0.4],
    ]
)  # fmt: skip
THRESHOLDS = np.array([0.0, 0.3, 0.7, 1.0])
Row = tuple[float, float, float]
PUBLISHED: dict[str, tuple[float, Row, Row, Row]] = {
    # the last frame; then mean, median and IQM of the last scores up to there, in thousands, with their intervals
    "atari100k-dreamerv3": (
        400_000,
        (9.292669230769231, 7.9694319230769235, 10.985978269230767),
        (1.8259999999999998, 1.4363550000000003, 1.9600499999999996),
        (2.2540303030303033, 2.0288511363636363, 2.532396590909091),
    ),
    "atari100k-ppo_fixhp": (
        400_000,
        (1.1011, 0.8771599999999999, 1.415988269230769),
        (0.27, 0.180475, 0.2851575),
        (0.22384848484848485, 0.18853598484848486, 0.2777344696969697),
    ),
    "dmc_proprio-dreamerv3": (
        500_000,
        (0.7578459274173811, 0.7321623572950583, 0.7823854138966239),
        (0.86847626646794, 0.8369854913328323, 0.9125034495169938),
        (0.8699457510387739, 0.8451605478505199, 0.891019430725647),
    ),
    "dmc_proprio-ppo_fixhp": (
        500_000,
        (0.2290604368888889, 0.18640086079722223, 0.2663729594805555),
        (0.126092771, 0.0701735856, 0.13302675162500002),
        (0.0921693597826087, 0.07008339358695653, 0.12854908913043478),
    ),
    "dmc_vision-dreamerv3": (
        500_000,
        (0.68775323821842, 0.653322431756637, 0.7247768536940065),
        (0.71092512746984, 0.6644144645597245, 0.80251),
        (0.776027241550146, 0.7269709656608621, 0.8217689431557522),
    ),
    "dmc_vision-sac": (
        500_000,
        (0.220257616633194, 0.20153645322491873, 0.24115372835674667),
        (0.06101390680739001, 0.047388296657874, 0.09135389290736823),
        (0.073434419812126, 0.05605300404324699, 0.09806742810257452),
    ),
}


def curve(xs: list[float], ys: list[float], seed: int = 0, task: str = "t") -> Curve:
    return Curve(task=task, method="m", seed=seed, xs=np.array(xs, float), ys=np.array(ys, float))


def as_rliable_draws(runs: int, tasks: int, number: int = 500) -> list[np.ndarray]:
    """The resamples that rliable draws after `np.random.seed(0)`."""
    generator = np.random.RandomState(0)
    drawn = np.stack([generator.choice(runs, (runs, tasks), replace=True) for _ in range(number)])  # [R N T]
    return [drawn[:, :, task] for task in range(tasks)]


def test_statistics_and_intervals_are_those_of_rliable() -> None:
    scores, drawn = list(RUNS_BY_TASKS.T), as_rliable_draws(5, 4)
    expected: dict[Statistic, Row] = {
        "mean": (0.585, 0.445, 0.7538125), "median": (0.42, 0.275, 0.56), "iqm": (0.495, 0.332375, 0.602625),
    }  # fmt: skip
    for statistic, row in expected.items():
        found = estimate(statistic, scores, drawn=drawn)
        assert (found.value, found.low, found.high) == pytest.approx(row, abs=1e-9)
        assert (found.tasks, found.runs, found.few) == (4, 5, False)
    shares = profile(scores, THRESHOLDS, drawn=drawn)
    assert shares.share == pytest.approx([0.9, 0.65, 0.3, 0.15])
    assert shares.low == pytest.approx([0.8, 0.45, 0.25, 0.05])
    assert shares.high == pytest.approx([1.0, 0.8, 0.4, 0.25])
    others = list((RUNS_BY_TASKS[::-1] * 1.1 - 0.05).T)
    assert improvement(scores, others).value == pytest.approx(0.495)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_scores_give_the_numbers_of_rliable(name: str) -> None:
    file = BASELINES / f"{name}.json.gz"
    if not file.exists():
        pytest.skip(f"there are no published scores at {file}")
    end, *expected = PUBLISHED[name]
    curves = [one for one in load_baselines([file]) if not one.constant]
    first = [one for one in curves if sum(c.task == one.task and c.seed < one.seed for c in curves) < 5]
    last = by_task(first, lambda one: float(one.ys[one.xs <= end][-1]) / 1000)
    scores = [last[task] for task in sorted(last)]
    drawn = as_rliable_draws(5, len(scores))
    statistics: tuple[Statistic, ...] = ("mean", "median", "iqm")
    for statistic, row in zip(statistics, expected, strict=True):
        found = estimate(statistic, scores, drawn=drawn)
        assert (found.value, found.low, found.high) == pytest.approx(row, abs=1e-6)


def test_resamples_stay_within_tasks_and_repeat() -> None:
    first, second = resamples([3, 7], 100, seed=4)
    assert first.shape == (100, 3) and second.shape == (100, 7)
    assert set(first.ravel()) == set(range(3)) and set(second.ravel()) == set(range(7))
    assert all(np.array_equal(a, b) for a, b in zip(resamples([3, 7], 100, seed=4), (first, second), strict=True))


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), min_size=1, max_size=5))
def test_tasks_may_have_any_number_of_runs(tasks: list[list[float]]) -> None:
    scores = [np.array(one) for one in tasks]
    statistics: tuple[Statistic, ...] = ("mean", "median", "iqm")
    for statistic in statistics:
        found = estimate(statistic, scores, drawn=resamples([len(one) for one in scores], 50))
        assert min(map(min, tasks)) - 1e-6 <= found.value <= max(map(max, tasks)) + 1e-6
        assert np.isnan(found.low) == (max(map(len, tasks)) < 2)
        assert np.isnan(found.low) or found.low <= found.high
        assert found.few == (min(map(len, tasks)) < 3)


def test_few_seeds_are_said() -> None:
    assert estimate("iqm", [np.array([1.0])]).remark == "1 seed: no interval"
    assert estimate("iqm", [np.array([1.0, 2.0])]).remark.startswith("2 seeds: too few")
    assert estimate("iqm", [np.array([1.0, 2.0, 3.0])]).remark == ""
    for wrong in ([], [np.array([])], [np.array([np.nan])]):
        with pytest.raises(ValueError, match="finite scores of each task"):
            estimate("mean", wrong)


def test_the_middle_half_drops_a_quarter_at_either_end() -> None:
    assert summary("iqm", [np.array([0.0, 1, 2, 100])]) == 1.5
    assert summary("iqm", [np.array([0.0, 1, 5])]) == 2  # floor(3 / 4) = 0
    assert summary("median", [np.array([0.0, 1, 5])]) == 1  # of one task: over its runs
    assert summary("median", [np.array([0.0, 2]), np.array([3.0]), np.array([9.0])]) == 3


def test_scores_are_normalised_by_their_suite() -> None:
    pong, walker = normaliser("atari_pong"), normaliser("dmc_walker_walk")
    assert pong and pong(np.array([-20.7, 14.6])) == pytest.approx([0, 1]) and pong.scale == "human"
    assert walker and walker(np.array([250.0])) == pytest.approx([0.25]) and walker.scale == "maximum"
    assert normaliser("atari_skiing") is None and normaliser("gym:CartPole-v1") is None
    with pytest.raises(ValueError, match="gym:CartPole-v1 cannot be normalised"):
        band([curve([10], [1], task="gym:CartPole-v1")], 10, normalised=True)


def test_an_equal_score_is_half_an_improvement() -> None:
    assert improvement([np.array([1.0, 2])], [np.array([1.0, 0])]).value == 0.875
    with pytest.raises(ValueError, match="the same tasks"):
        improvement([np.array([1.0])], [np.array([1.0]), np.array([1.0])])


def test_frames_to_a_score_are_those_of_a_trailing_mean() -> None:
    one = curve([10, 20, 30, 40, 50], [9, 1, 3, 5, 9])
    assert frames_to(one, 4, width=20) == 20  # (9 + 1) / 2; the 9 at 10 frames does not count alone
    assert frames_to(one, 5.5, width=20) == 50
    assert frames_to(one, 3, width=10) == 10
    assert frames_to(one, 8, width=20) is None
    assert frames_to(curve([10, 10], [0, 8]), 4, width=10) == 10  # both ended there
    assert frames_to(one, 4.5, width=10, points=3) == 50  # (3 + 5 + 9) / 3; (9 + 1 + 3) / 3 is less
    assert frames_to(one, 1, width=10, points=6) is None


def test_a_score_at_a_budget_is_the_mean_of_the_points_before_it() -> None:
    one = curve([100, 190, 200, 210], [1, 2, 4, 50])
    assert score_at(one, 200, width=20) == 3
    assert score_at(one, 180, width=40) == 1  # the last before
    assert score_at(one, 1000, width=20) is None


def test_a_band_has_the_statistic_over_runs_at_each_point() -> None:
    curves = [curve([10, 20], [y, 2 * y], seed) for seed, y in enumerate([0.0, 1, 2, 100])]
    found = band(curves, 10, "iqm")
    assert found.xs.tolist() == [10, 20] and found.value.tolist() == [1.5, 3] and found.runs == 4
    assert (found.low < found.value).all() and (found.value < found.high).all()
    single = band(curves[:1], 10)
    assert single.few and np.isnan(single.low).all() and single.value.tolist() == [0, 0]
    longer = band([*curves, curve([10, 20, 30], [1, 1, 1], 9)], 10)
    assert longer.xs.tolist() == [10, 20]  # one of five runs reaches 30


def test_a_band_over_tasks_weighs_them_normalised() -> None:
    curves = [
        curve([10], [500], task="dmc_walker_walk"), curve([10], [1000], 1, task="dmc_walker_walk"),
        curve([10], [14.6], task="atari_pong"), curve([10, 20], [-20.7, 0], 1, task="atari_pong"),
    ]  # fmt: skip
    found = band(curves, 10, normalised=True)
    assert found.xs.tolist() == [10] and found.value == pytest.approx([(0.75 + 0.5) / 2])


@given(
    tasks=st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), min_size=1, max_size=4),
    statistic=st.sampled_from(["mean", "median", "iqm"]),
    gone=st.booleans(),
)
def test_a_band_has_the_interval_of_each_point_alone(
    tasks: list[list[float]], statistic: Statistic, gone: bool
) -> None:
    rows = [np.array([score, 2 * score + 1, score if n or not gone else np.nan]) for own in tasks
            for n, score in enumerate(own)]  # fmt: skip
    names = [f"task{number}" for number, own in enumerate(tasks) for _ in own]
    grid = np.array([10.0, 20.0, 30.0])
    found = band_of_rows(names, rows, grid, statistic, number=200)
    for x, value, low, high in zip(found.xs, found.value, found.low, found.high, strict=True):
        column = [np.array([row[grid == x][0] for row, name in zip(rows, names, strict=True) if name == task])
                  for task in dict.fromkeys(names)]  # fmt: skip
        column = [one[np.isfinite(one)] for one in column]
        alone = estimate(statistic, column, drawn=resamples([len(one) for one in column], 200))
        assert (value, low, high) == pytest.approx((alone.value, alone.low, alone.high), abs=1e-9, nan_ok=True)
    assert len(found.xs) in (2, 3)
