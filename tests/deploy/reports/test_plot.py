"""Pictures, really rendered and looked into: the colours that must be there are there, where they must be."""

import json
import math
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.cli import main
from deploy.reports.curves import Aggregate, load_baselines
from deploy.reports.metrics import MetricsWriter
from deploy.reports.plot import cut, plot
from tests.deploy.reports.test_curves import make_run

RUN, BASELINE = (0x0B, 0x6E, 0x8F), (0xE8, 0x96, 0x3A)


def pixels(file: Path, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns [N 2] of the pixels of nearly this colour."""
    picture = np.asarray(Image.open(file).convert("RGB")).astype(int)
    assert picture.shape[1] >= 1000
    return np.argwhere(np.abs(picture - colour).max(-1) < 12)


def draw(logdirs: Sequence[Path], out: Path, **options: Any) -> Path:
    plot(logdirs, out=out, **options)
    return out


def text(svg: Path) -> list[str]:
    """What is written in a picture."""
    return [unescape(found) for found in re.findall(r">([^<>]+)</text>", svg.read_text())]


def write_baselines(file: Path, **more: object) -> Path:
    published = {"task": "t", "method": "dreamerv3", "seed": 0, "xs": [100, 200, 300, 900], "ys": [9, 9, 9, 9]}
    file.write_text(json.dumps([published, published | {"task": "another"}, *more.values()]))
    return file


def test_runs_and_published_curves_share_the_axes(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "a", seed=0, scores=(1, 2, 3), evaluation=None)
    make_run(tmp_path / "runs" / "b", seed=1, scores=(2, 3, 4), evaluation=None)
    published = write_baselines(tmp_path / "published.json")
    out = draw([tmp_path / "runs"], tmp_path / "p.png", baselines=[published], export_to=tmp_path / "e.json")
    mine, theirs = pixels(out, RUN), pixels(out, BASELINE)
    # Without its legend entry near the top: the published 9 lies above our 1 to 4.
    middle = [found[found[:, 0] > 110] for found in (mine, theirs)]
    assert len(middle[0]) > 1000 and len(middle[1]) > 1000
    assert middle[1][:, 0].max() < middle[0][:, 0].min()
    # Our line rises to the right.
    left, right = middle[0][middle[0][:, 1] < 500], middle[0][middle[0][:, 1] > 900]
    assert right[:, 0].mean() < left[:, 0].mean()
    assert [(one.seed, one.ys.tolist()) for one in load_baselines([tmp_path / "e.json"])] == [
        (0, [1, 2, 3]),
        (1, [2, 3, 4]),
    ]


def test_a_trivial_policy_is_a_horizontal_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", scores=(1, 2, 3))
    trivial = tmp_path / "trivial.json"
    trivial.write_text(json.dumps([{"task": "t", "method": "random policy", "seed": 0, "xs": [0], "ys": [50]}]))
    grey = (0x6B, 0x72, 0x80)

    def dashes(file: Path) -> int:
        found = pixels(file, grey)
        rows, counts = np.unique(found[:, 0], return_counts=True)
        return int(counts.max(initial=0)) if len(rows) else 0

    without = dashes(draw([run], tmp_path / "without.png"))
    assert dashes(draw([run], tmp_path / "with.png", baselines=[trivial])) > max(400, 2 * without)


def test_evaluations_are_marked(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", scores=(1, 2, 3))  # its evaluation scored 99
    out = draw([run], tmp_path / "p.png")
    svg = draw([run], tmp_path / "p.svg").read_text()
    assert len(pixels(out, RUN)) > 100
    assert "evaluations" in svg and "Nexus (1 seed)" in svg and "environment frames, action repeats counted" in svg


def test_a_panel_for_every_task(tmp_path: Path) -> None:
    published = write_baselines(tmp_path / "published.json")
    assert draw([], tmp_path / "all.pdf", baselines=[published]).stat().st_size > 5000
    svg = draw([], tmp_path / "all.svg", baselines=[published]).read_text()
    assert ">t<" in svg and ">another<" in svg
    svg = draw([], tmp_path / "one.svg", baselines=[published], tasks=["another"], band="minmax").read_text()
    assert ">t<" not in svg and ">another<" in svg


@pytest.mark.parametrize("scores", [(3.0,), (-5.0, -2.0, -1.0), (0.0, 0.0)])
def test_short_negative_and_flat_runs_are_drawn(tmp_path: Path, scores: tuple[float, ...]) -> None:
    assert len(pixels(draw([make_run(tmp_path / "a", scores=scores)], tmp_path / "p.png"), RUN)) > 100


def test_misuse_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    with pytest.raises(ValueError, match=r"p\.jpg must end in \.png"):
        plot([run], out=tmp_path / "p.jpg")
    with pytest.raises(ValueError, match="There is no curve for walk, only for t"):
        plot([run], out=tmp_path / "p.png", tasks=["walk"])
    with pytest.raises(ValueError, match="nothing to draw"):
        plot([], out=tmp_path / "p.png")
    with pytest.raises(ValueError, match=r"a/scores\.jsonl/p\.png cannot be written: .*it is a file"):
        plot([run], out=run / "scores.jsonl" / "p.png")
    with pytest.raises(ValueError, match="is a folder; name a file"):
        plot([run], out=tmp_path / "p.png", export_to=tmp_path)
    for frames in (math.nan, math.inf, 0.0, -1.0):
        with pytest.raises(ValueError, match="cannot end at"):
            plot([run], out=tmp_path / "p.png", frames=frames)
    assert not (tmp_path / "p.png").exists()


def test_what_cannot_be_seen_is_said_and_stays_out_of_the_legend(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", scores=(1, 2), evaluation=None)
    late = {"task": "t", "method": "late", "seed": 0, "xs": [10_000, 20_000], "ys": [1, 2]}
    other = tmp_path / "other.json"
    other.write_text(json.dumps([late | {"task": "another"}]))
    published = write_baselines(tmp_path / "published.json", late=late)
    notes: list[str] = []
    svg = draw([run], tmp_path / "p.svg", baselines=[published, other], note=notes.append)
    assert "DreamerV3, published (1 seed)" in text(svg) and "late (1 seed)" not in text(svg)
    assert notes == [
        f"{other} has no curve for t.",
        "late begins at 10,000 frames of t, after the axis ends; raise --frames.",
    ]
    svg = draw([run], tmp_path / "q.svg", baselines=[published], frames=20_000, note=notes.append)
    assert "late (1 seed)" in text(svg) and len(notes) == 2


def test_the_last_episode_and_the_end_of_the_line_lie_within_the_axes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", scores=(1, 1, 1, 1, 9), evaluation=None)  # the last ends at the axis' end
    found = pixels(draw([run], tmp_path / "p.png"), RUN)
    middle = found[found[:, 0] > 110]
    columns = np.unique(middle[:, 1])
    frame = pixels(tmp_path / "p.png", (0xC4, 0xC8, 0xCE))  # of the axes: its lower line ends at their right edge
    assert columns.max() < frame[:, 1].max() - 3
    mean = cut(Aggregate(xs=np.array([10.0, 20]), mean=np.array([1.0, 3]), low=LOW, high=HIGH, seeds=1), 13, 13)
    assert mean.xs.tolist() == [10, 13] and mean.mean.tolist() == [1, 3]
    mean = cut(Aggregate(xs=np.array([10.0, 20]), mean=np.array([1.0, 3]), low=LOW, high=HIGH, seeds=1), 12, 13)
    assert mean.xs.tolist() == [10] and mean.mean.tolist() == [1]  # few episodes would bend the line sharply
    mean = cut(Aggregate(xs=np.array([10.0, 20]), mean=np.array([1.0, 3]), low=LOW, high=HIGH, seeds=1), 20, 15)
    assert mean.xs.tolist() == [10, 15] and mean.mean.tolist() == [1, 2] and mean.high.tolist() == [2, 3]


BAND = (0xD8, 0xE7, 0xED)  # of one colour of runs
LOW, HIGH = np.array([0.0, 2]), np.array([2.0, 4])


def test_the_legend_names_all_that_is_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", scores=(1, 2, 3))
    assert text(draw([run], tmp_path / "p.svg"))[-3:] == ["Nexus (1 seed)", "episodes", "evaluations"]
    seeds = [make_run(tmp_path / str(seed), seed=seed, evaluation=None) for seed in (1, 2)]
    assert text(draw(seeds, tmp_path / "q.svg"))[-1] == "Nexus (2 seeds)"


def test_runs_with_evaluations_only_are_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", scores=(), evaluation=7)
    svg = draw([run], tmp_path / "p.svg")
    assert "t" in text(svg) and "evaluations" in text(svg)
    assert len(pixels(draw([run], tmp_path / "p.png"), RUN)) > 30


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    names = ["cost $5 and $6", "_hidden", "学习", "a&b<c>", "new\nline", "x" * 90]
    runs = [make_run(tmp_path / name, task="$\\frac$", evaluation=None) for name in names]
    shown = text(draw(runs, tmp_path / "p.svg"))
    assert "$\\frac$" in shown
    assert {"cost $5 and $6 (1 seed)", "hidden (1 seed)", "<U+5B66><U+4E60> (1 seed)", "a&b<c> (1 seed)"} <= set(shown)
    assert {"new<U+000A>line (1 seed)", f"{23 * 'x'}…{23 * 'x'} (1 seed)"} <= set(shown)
    draw(runs, tmp_path / "p.png")


@pytest.mark.parametrize("number", [7, 40])
def test_many_runs_of_one_seed_keep_apart(tmp_path: Path, number: int) -> None:
    runs = [make_run(tmp_path / f"with-a-rather-long-name-{i}", scores=(i, i), evaluation=None) for i in range(number)]
    picture = np.asarray(Image.open(draw(runs, tmp_path / "p.png")).convert("L"))
    edges = [picture[:4], picture[-4:], picture[:, :4], picture[:, -4:]]
    assert all((edge == 255).all() for edge in edges), "something is cut off"
    svg = draw(runs, tmp_path / "p.svg").read_text()
    styles = re.findall(
        r'<path d="M [^"]*L[^"]*"[^>]*style="fill: none; (stroke-dasharray[^;]*; |)[^"]*?stroke: (#\w+)', svg
    )
    lines = [style for style in styles if style[1] not in ("#e6e8eb", "#c4c8ce")]
    assert len(set(lines)) >= number, "two runs look alike"


def test_why_there_is_nothing_to_draw_is_said_as_it_is(tmp_path: Path) -> None:
    first, second, silent = (make_run(tmp_path / name, scores=(), evaluation=None) for name in "abc")
    for path in (first, second, silent):
        (path / "scores.jsonl").touch()
    nothing = r"^There is nothing to draw: "
    with pytest.raises(ValueError, match=nothing + r"no run has a score yet\. Name one that has, or give --base"):
        plot([silent], out=tmp_path / "p.png")
    (first / "scores.jsonl").write_text("{\n")
    with pytest.raises(ValueError, match=nothing + r"1 run cannot be read, no other has a score\. Name one"):
        plot([first], out=tmp_path / "p.png")
    (second / "scores.jsonl").write_text("{\n")
    with pytest.raises(ValueError, match=nothing + r"2 runs cannot be read, no other has a score\. Name one"):
        plot([first, second, silent], out=tmp_path / "p.png")
    (silent / "scores.jsonl").write_text('{"frames": 1, "score": NaN, "kind": "train"}\n')
    notes: list[str] = []
    with pytest.raises(ValueError, match=nothing + "no run has a score yet"):
        plot([silent], out=tmp_path / "p.png", note=notes.append)
    assert notes == [f"{silent}/scores.jsonl: 1 score is not finite, or beyond 1e+100: left out."]


def report(logdir: Path, *metrics: dict[str, float], seed: int = 0) -> Path:
    with MetricsWriter(logdir, tensorboard=False) as logs:
        for n, one in enumerate(metrics, start=1):
            logs.episode(n * 100, n, score=900, length=100, seed=n, kind="train", metrics=one)
    (logdir / "config.yaml").write_text(f"task: t\nseed: {seed}\n")
    return logdir


def test_another_column_is_drawn_from_the_episodes_that_have_it(tmp_path: Path) -> None:
    run = report(tmp_path / "a", {}, {"is_success": 0}, {"$x_a$": 3.0, "is_success": 1}, {"is_success": 1})
    without, notes = make_run(tmp_path / "b"), list[str]()
    picture, points = tmp_path / "p.svg", tmp_path / "e.json"
    draw([run, without], picture, value="is_success", export_to=points, note=notes.append)
    (curve,) = load_baselines([points])
    assert (curve.xs.tolist(), curve.ys.tolist()) == ([200, 300, 400], [0, 1, 1])
    assert any(line.startswith("success rate, mean") for line in text(picture)) and "episodes" not in text(picture)
    assert notes == [f"{without} has no is_success yet, only length, score: left out."]
    assert any(line.startswith("$x_a$, mean") for line in text(draw([run], picture, value="$x_a$")))
    draw([run, without], picture)  # the scores of both
    with pytest.raises(ValueError, match="no run has the value 'is_succes' yet"):
        plot([run], out=picture, value="is_succes")
    with pytest.raises(ValueError, match="'seed' is no outcome of an episode; give score, length or a reported"):
        plot([run], out=picture, value="seed")


def test_the_band_of_a_rate_ends_at_1(tmp_path: Path) -> None:
    outcomes = enumerate([(1.0, 1.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0)])
    runs = [
        report(tmp_path / str(seed), *({"rate": y, "speed": min(y, 0.999)} for y in ys), seed=seed)
        for seed, ys in outcomes
    ]
    rate, speed = (pixels(draw(runs, tmp_path / f"{name}.png", value=name), BAND)[:, 0] for name in ("rate", "speed"))
    rate, speed = (rows[rows > 110] for rows in (rate, speed))  # without title and legend
    assert len(rate) > 10_000 and speed.min() + 10 < rate.min()


def test_a_damaged_run_is_left_out_and_reported(tmp_path: Path) -> None:
    run, damaged = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    (damaged / "config.yaml").write_text("seed: 0")
    with pytest.raises(SystemExit) as ended:
        main(["plot", str(run), str(damaged), "--out", str(tmp_path / "p.png")])
    assert ended.value.code == 1 and (tmp_path / "p.png").exists()
