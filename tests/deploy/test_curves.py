"""Curves: read from runs and published files, aggregated with literal numbers, exported and read again."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.curves import Curve, aggregate, bin_width, export, load_baselines, load_runs
from deploy.metrics import MetricsWriter

pytestmark = pytest.mark.timeout(60)


def curve(xs: list[float], ys: list[float], seed: int = 0) -> Curve:
    return Curve(task="t", method="m", seed=seed, xs=np.array(xs, float), ys=np.array(ys, float))


def make_run(
    logdir: Path, task: str = "t", seed: int = 0, scores: tuple[float, ...] = (1.0, 2.0), evaluation: float | None = 99
) -> Path:
    with MetricsWriter(logdir, tensorboard=False) as logs:
        for n, score in enumerate(scores, start=1):
            logs.episode(n * 100, n, score=score, length=100, seed=n, kind="train")
        if evaluation is not None:
            logs.episode(250, 3, score=evaluation, length=100, seed=5, kind="eval")
    (logdir / "config.yaml").write_text(f"task: {task}\nseed: {seed}\n")
    return logdir


def test_a_point_is_the_mean_of_the_episodes_that_end_in_its_bin() -> None:
    # (0, 10] holds 2 and 4, (10, 20] holds 10, (20, 30] none, (30, 40] holds 40
    result = aggregate([curve([1, 10, 11, 31], [2, 4, 10, 40])], width=10)
    assert result.xs.tolist() == [10, 20, 30, 40]
    assert result.mean.tolist() == [3, 10, 25, 40]  # the empty bin lies halfway
    assert result.low.tolist() == result.high.tolist() == result.mean.tolist()  # one seed has no interval


def test_the_band_is_students_interval_over_seeds() -> None:
    curves = [curve([10], [y], seed) for seed, y in enumerate([1.0, 2.0, 3.0])]
    result = aggregate(curves, width=10, band="ci95")
    assert result.seeds == 3
    assert result.mean.tolist() == [2.0]
    assert result.high[0] - 2.0 == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)  # s = 1, t(2) = 4.3027
    assert 2.0 - result.low[0] == pytest.approx(result.high[0] - 2.0)
    spread = aggregate(curves, width=10, band="minmax")
    assert (spread.low[0], spread.high[0]) == (1.0, 3.0)


def test_points_that_few_seeds_reach_are_left_out() -> None:
    long, short = curve([10, 20, 30], [1, 1, 1]), [curve([10, 20], [1, 1], seed) for seed in (1, 2)]
    assert aggregate([long, *short], width=10).xs.tolist() == [10, 20]
    assert aggregate([long, short[0]], width=10).xs.tolist() == [10, 20, 30]


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(-1e3, 1e3)), min_size=1, max_size=60), st.integers(1, 3000))
def test_no_mean_leaves_the_scores_range(points: list[tuple[int, float]], width: int) -> None:
    points = sorted(points)
    one = curve([x for x, _ in points], [y for _, y in points])
    result = aggregate([one], width=width)
    assert len(result.xs) >= 1
    assert np.isfinite(result.mean).all()
    assert (result.mean >= one.ys.min() - 1e-6).all() and (result.mean <= one.ys.max() + 1e-6).all()


def test_bins_are_round_and_no_finer_than_the_points() -> None:
    assert bin_width([curve([1, 2], [0, 0])], frames=500_000) == 10_000
    assert bin_width([curve([1, 2], [0, 0])], frames=120_000) == 5_000
    assert bin_width([curve(list(range(10_000, 100_000, 10_000)), [0.0] * 9)], frames=20_000) == 10_000
    assert bin_width([curve([5], [0])], frames=20) == 1


def test_a_run_is_read_with_its_task_and_seed_and_kinds_apart(tmp_path: Path) -> None:
    make_run(tmp_path / "group" / "a", task="dmc_cup_catch", seed=3)
    (one,) = load_runs([tmp_path])
    assert (one.task, one.method, one.seed) == ("dmc_ball_in_cup_catch", "Nexus", 3)
    assert (one.xs.tolist(), one.ys.tolist()) == ([100, 200], [1, 2])
    assert load_runs([tmp_path], kind="eval")[0].ys.tolist() == [99]


def test_a_run_without_actors_is_drawn_from_its_evaluations(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", scores=())
    (run / "config.yaml").write_text("task: t\noffline: runs/other\n")
    (found,) = load_runs([run])
    assert found.offline and found.xs.tolist() == [250] and found.ys.tolist() == [99]


def test_runs_of_one_seed_are_told_apart_by_directory(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("small", "large")]
    assert [one.method for one in load_runs(runs)] == ["small", "large"]
    assert len(load_runs([tmp_path, *runs])) == 2  # named twice, read once


@pytest.mark.parametrize("name", ["points.json", "points.json.gz"])
def test_what_is_exported_reads_back_exactly(tmp_path: Path, name: str) -> None:
    runs = load_runs([make_run(tmp_path / "a", scores=(0.1, 1 / 3, 7))])
    export(runs, tmp_path / name)
    (again,) = load_baselines([tmp_path / name])
    assert (again.task, again.method, again.seed) == (runs[0].task, runs[0].method, runs[0].seed)
    assert np.array_equal(again.xs, runs[0].xs) and np.array_equal(again.ys, runs[0].ys)
    raw = (tmp_path / name).read_bytes()
    entries = json.loads(gzip.decompress(raw) if name.endswith(".gz") else raw)
    assert list(entries[0]) == ["task", "method", "seed", "xs", "ys"]


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere is not a directory"):
        load_runs([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no scores\.jsonl"):
        load_runs([tmp_path / "empty"])
    run = make_run(tmp_path / "run")
    (run / "config.yaml").unlink()
    with pytest.raises(ValueError, match=r"config\.yaml cannot be read"):
        load_runs([run])
    bad = tmp_path / "bad.json"
    bad.write_text("[")
    with pytest.raises(ValueError, match=r"bad\.json cannot be read as JSON"):
        load_baselines([bad])
    bad.write_text('[{"task": "t"}]')
    with pytest.raises(ValueError, match=r"entry 0 is not an object with task, method"):
        load_baselines([bad])
    bad.write_text('[{"task": "t", "method": "m", "seed": 0, "xs": [1, 2], "ys": [1]}]')
    with pytest.raises(ValueError, match=r"xs \(2,\) and ys \(1,\)"):
        load_baselines([bad])
