"""Pictures, really rendered and looked into: the colours that must be there are there, where they must be."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.curves import load_baselines
from deploy.plot import plot
from tests.deploy.test_curves import make_run

pytestmark = pytest.mark.timeout(120)

RUN, BASELINE = (0x0B, 0x6E, 0x8F), (0xE8, 0x96, 0x3A)


def pixels(file: Path, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns [N 2] of the pixels of nearly this colour."""
    picture = np.asarray(Image.open(file).convert("RGB")).astype(int)
    assert picture.shape[1] >= 1000
    return np.argwhere(np.abs(picture - colour).max(-1) < 12)


def write_baselines(file: Path, **more: object) -> Path:
    published = {"task": "t", "method": "dreamerv3", "seed": 0, "xs": [100, 200, 300, 900], "ys": [9, 9, 9, 9]}
    file.write_text(json.dumps([published, published | {"task": "another"}, *more.values()]))
    return file


def test_runs_and_published_curves_share_the_axes(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "a", seed=0, scores=(1, 2, 3), evaluation=None)
    make_run(tmp_path / "runs" / "b", seed=1, scores=(2, 3, 4), evaluation=None)
    published = write_baselines(tmp_path / "published.json")
    out = plot([tmp_path / "runs"], out=tmp_path / "p.png", baselines=[published], export_to=tmp_path / "e.json")
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

    without = dashes(plot([run], out=tmp_path / "without.png"))
    assert dashes(plot([run], out=tmp_path / "with.png", baselines=[trivial])) > max(400, 2 * without)


def test_evaluations_are_marked(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", scores=(1, 2, 3))  # its evaluation scored 99
    out = plot([run], out=tmp_path / "p.png")
    svg = plot([run], out=tmp_path / "p.svg").read_text()
    assert len(pixels(out, RUN)) > 100
    assert "evaluations" in svg and "Nexus (1 seed)" in svg and "environment frames, action repeats counted" in svg


def test_a_panel_for_every_task(tmp_path: Path) -> None:
    published = write_baselines(tmp_path / "published.json")
    assert plot([], out=tmp_path / "all.pdf", baselines=[published]).stat().st_size > 5000
    svg = plot([], out=tmp_path / "all.svg", baselines=[published]).read_text()
    assert ">t<" in svg and ">another<" in svg
    svg = plot([], out=tmp_path / "one.svg", baselines=[published], tasks=["another"], band="minmax").read_text()
    assert ">t<" not in svg and ">another<" in svg


@pytest.mark.parametrize("scores", [(3.0,), (-5.0, -2.0, -1.0), (0.0, 0.0)])
def test_short_negative_and_flat_runs_are_drawn(tmp_path: Path, scores: tuple[float, ...]) -> None:
    assert len(pixels(plot([make_run(tmp_path / "a", scores=scores)], out=tmp_path / "p.png"), RUN)) > 100


def test_misuse_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    with pytest.raises(ValueError, match=r"p\.jpg must end in \.png"):
        plot([run], out=tmp_path / "p.jpg")
    with pytest.raises(ValueError, match="there is no curve of walk; there are curves of t"):
        plot([run], out=tmp_path / "p.png", tasks=["walk"])
    with pytest.raises(ValueError, match="nothing to draw"):
        plot([], out=tmp_path / "p.png")
