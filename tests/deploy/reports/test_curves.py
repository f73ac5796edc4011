"""Curves: read from runs and published files, aggregated with literal numbers, exported and read again."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.reports.curves import Curve, aggregate, bin_width, export, load_baselines, load_runs, told_apart
from deploy.reports.metrics import MetricsWriter


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
    runs = load_runs([tmp_path])
    (one,) = runs.curves
    assert (one.task, one.method, one.seed) == ("dmc_ball_in_cup_catch", "Nexus", 3)
    assert (one.xs.tolist(), one.ys.tolist()) == ([100, 200], [1, 2])
    assert runs.evaluations[0].ys.tolist() == [99]


def test_a_run_without_actors_is_drawn_from_its_evaluations(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", scores=())
    (run / "config.yaml").write_text("task: t\noffline: runs/other\n")
    (found,) = load_runs([run]).curves
    assert found.offline and found.xs.tolist() == [250] and found.ys.tolist() == [99]


def test_runs_of_one_seed_are_told_apart_by_directory(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("small", "large")]
    assert [one.method for one in load_runs(runs).curves] == ["small", "large"]
    assert len(load_runs([tmp_path, *runs]).curves) == 2  # named twice, read once


@pytest.mark.parametrize("name", ["points.json", "points.json.gz"])
def test_what_is_exported_reads_back_exactly(tmp_path: Path, name: str) -> None:
    runs = load_runs([make_run(tmp_path / "a", scores=(0.1, 1 / 3, 7))]).curves
    export(runs, tmp_path / name)
    (again,) = load_baselines([tmp_path / name])
    assert (again.task, again.method, again.seed) == (runs[0].task, runs[0].method, runs[0].seed)
    assert np.array_equal(again.xs, runs[0].xs) and np.array_equal(again.ys, runs[0].ys)
    raw = (tmp_path / name).read_bytes()
    entries = json.loads(gzip.decompress(raw) if name.endswith(".gz") else raw)
    assert list(entries[0]) == ["task", "method", "seed", "xs", "ys"]


def test_a_run_that_has_just_begun_does_not_keep_the_others_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "picture.png").touch()
    begun = make_run(tmp_path / "begun", scores=(), evaluation=None)
    silent = make_run(tmp_path / "silent", scores=(), evaluation=None)
    (silent / "scores.jsonl").touch()
    notes: list[str] = []
    found = load_runs([run, tmp_path / "empty", tmp_path / "picture.png", begun, silent], note=notes.append)
    assert len(found.curves) == 1 and not found.damaged
    assert [line.split(tmp_path.name)[1] for line in notes] == [
        "/empty has no scores.jsonl, so it is not a run: left out.",
        "/picture.png is not a directory: left out.",
        "/begun has no score yet: left out.",
        "/silent has no score yet: left out.",
    ]
    notes.clear()
    found = load_runs([run, tmp_path / "nowhere"], note=notes.append)
    assert len(found.curves) == 1 and found.damaged == [f"{tmp_path / 'nowhere'} does not exist."]
    assert notes == [f"Left out: {tmp_path / 'nowhere'} does not exist."]


@pytest.mark.parametrize(
    "line",
    [
        '{"frames": 5, "updates": 1, "score": 1.0}', '[1, 2]', "null", '"text"',
        '{"frames": null, "score": 1, "kind": "train"}',
        '{"frames": NaN, "score": 1, "kind": "train"}', '{"frames": "5", "score": 1, "kind": "train"}',
        '{"frames": 5, "score": [1], "kind": "train"}', '{"frames": 5, "score": {}, "kind": "eval"}',
        '{"frames": -5, "score": 1, "kind": "train"}', "{",
    ],
)  # fmt: skip
def test_a_line_that_is_no_score_is_named_and_its_run_left_out(tmp_path: Path, line: str) -> None:
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "other", seed=1)
    with (run / "scores.jsonl").open("a") as file:
        file.write(line + "\n")
    found = load_runs([run, other], note=lambda text: None)
    assert [curve.seed for curve in found.curves] == [1]
    assert len(found.damaged) == 1
    assert f"{run}/scores.jsonl, line 4" in found.damaged[0] and "remove that line" in found.damaged[0]


def test_scores_that_are_no_finite_numbers_are_left_out_and_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with (run / "scores.jsonl").open("a") as file:
        for score in ("NaN", "Infinity", "-Infinity", "null", "1e308", "1e999", "1" + 400 * "0"):
            file.write(f'{{"frames": 300, "updates": 3, "score": {score}, "kind": "train"}}\n')
    notes: list[str] = []
    found = load_runs([run], note=notes.append)
    assert found.curves[0].ys.tolist() == [1, 2]
    assert notes == [f"{run}/scores.jsonl: 7 scores are not finite, or beyond 1e+100: left out."]


@pytest.mark.parametrize(
    ("config", "message"),
    [("seed: 0", "names no task"), ("task: null", "names no task"), ("- t", "names no task"), ("", "names no task"),
     ("task: t\nseed: null", "seed is None"), ("task: t\nseed: one", "seed is 'one'"), ("task: [", "is not YAML"),
     (b"\xff\xfe\x00", "is not text"), (None, "holds no config.yaml")],
)  # fmt: skip
def test_a_configuration_that_does_not_fit_is_named(tmp_path: Path, config: str | bytes | None, message: str) -> None:
    run = make_run(tmp_path / "run")
    (run / "config.yaml").unlink()
    if config is not None:
        (run / "config.yaml").write_bytes(config if isinstance(config, bytes) else config.encode())
    (damaged,) = load_runs([run], note=lambda text: None).damaged
    assert str(run) in damaged and "config.yaml" in damaged and message in damaged


def test_a_configuration_without_a_seed_is_seed_0(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "config.yaml").write_text("task: t\n")
    assert load_runs([run]).curves[0].seed == 0


def test_runs_whose_directories_have_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / group / "run") for group in ("small", "large")]
    assert [one.method for one in load_runs(runs).curves] == ["small/run", "large/run"]


def test_bad_baselines_are_named(tmp_path: Path) -> None:
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
    bad.write_text('{"task": "t"}')
    with pytest.raises(ValueError, match=r"bad\.json is not a list of curves, but a dict"):
        load_baselines([bad])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seed": None}, "seed is None"), ({"seed": "first"}, "seed is 'first'"), ({"task": None}, "task is None"),
     ({"method": 3}, "method is 3"), ({"xs": ["a", "b"]}, "lists of numbers"), ({"xs": 1}, "lists of numbers"),
     ({"ys": [[1], [2, 3]]}, "lists of numbers"), ({"xs": [math.nan, math.nan]}, "no point"),
     ({"ys": [None, math.inf]}, "no point")],
)  # fmt: skip
def test_an_entry_that_does_not_fit_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(json.dumps([{"task": "t", "method": "m", "seed": 0, "xs": [1, 2], "ys": [3, 4]} | change]))
    with pytest.raises(ValueError, match=rf"bad\.json, entry 0.*{message}"):
        load_baselines([file])


def test_points_without_a_number_are_left_out_of_an_entry(tmp_path: Path) -> None:
    file = tmp_path / "some.json"
    entry = {"task": "t", "method": "m", "seed": 0, "xs": [1, math.nan, 3, None], "ys": [3, 4, 5, 6]}
    file.write_text(json.dumps([entry]))
    (one,) = load_baselines([file])
    assert (one.xs.tolist(), one.ys.tolist()) == ([1, 3], [3, 5])


def test_seeds_without_a_point_in_common_still_have_a_mean() -> None:
    apart = [curve([x], [y], seed) for seed, (x, y) in enumerate([(10, 1), (30, 2), (50, 3)])]
    assert aggregate(apart, width=10).mean.tolist() == [1, 2, 3]


def test_score_files_of_the_same_method_and_seed_are_told_apart() -> None:
    def of(method: str, seed: int, task: str = "t") -> Curve:
        return Curve(task=task, method=method, seed=seed, xs=np.ones(2), ys=np.ones(2))

    files: dict[str | Path, list[Curve]] = {
        "x/a.json": [of("Nexus", 0), of("Nexus", 1), of("SAC", 0)],
        "b.json": [of("SAC", 0), of("PPO", 0)],
        "c.json": [of("PPO", 1)],
    }
    names = [one.method for one in told_apart([of("Nexus", 1)], files)]
    assert names == ["Nexus, a.json", "Nexus, a.json", "SAC", "SAC, b.json", "PPO", "PPO"], "other seeds of PPO belong"
    same = told_apart([], {f"{folder}/s.json": [of("Nexus", 0)] for folder in "abc"})
    assert [one.method for one in same] == ["Nexus", "Nexus, b/s.json", "Nexus, c/s.json"]
    assert [one.method for one in told_apart([of("Nexus", 0, "other")], files)][:2] == ["Nexus", "Nexus"]
