"""`nexus report`: small score files with numbers worked out by hand, and the published ones."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.cli import main
from deploy.reports.comparison.document import Section, Table, html, markdown
from deploy.reports.comparison.numbers import Reaching, costs, finals, reaching, standings
from deploy.reports.comparison.report import write_report
from deploy.reports.curves import Curve
from deploy.reports.metrics import MetricsWriter
from tests.deploy.reports.test_curves import make_run

BASELINES = Path(__file__).parents[4] / "shared" / "baselines"


def curve(ys: list[float], seed: int = 0, task: str = "gym:CartPole-v1") -> Curve:
    return Curve(task=task, method="m", seed=seed, xs=np.arange(1.0, len(ys) + 1) * 100, ys=np.array(ys))


def score_file(file: Path, method: str, scores: dict[str, list[float]]) -> Path:
    """A file with one run for each score of each task, which it has in all its 500k frames."""
    entries = [
        {"task": task, "method": method, "seed": seed, "xs": [390_000, 499_000], "ys": [score, score]}
        for task, values in scores.items()
        for seed, score in enumerate(values)
    ]
    file.write_text(json.dumps(entries))
    return file


def test_final_scores_are_those_at_the_end_of_the_shortest_run() -> None:
    (found,) = finals([curve([0.0] * 19 + [8.0]), curve([0.0] * 19 + [4.0, 99.0], seed=1)])
    assert found.mean and (found.frames, found.mean.value, found.runs) == (2000, 6, 2)  # frames 1901 to 2000
    (late,) = finals([curve([1.0] * 10)], frames=2000)
    assert (late.runs, late.frames, late.mean, late.iqm) == (1, 2000, None, None), "its last episode ended at 1000"


def test_a_score_is_reached_by_the_mean_of_ten_episodes() -> None:
    (found,) = reaching([curve([0.0] * 5 + [900.0] * 20)])
    assert (found.score, found.frames) == (450, [1000])  # five of the last ten
    (published,) = reaching([], published=[curve([0.0] * 5 + [900.0] * 20)], scores=[450])
    assert published.frames == [600]  # each of its points is a mean
    twice = replace(curve([900.0, 100.0, 500.0, 600.0]), xs=np.array([100.0, 100.0, 200.0, 200.0]))
    (evaluated,) = reaching([], [twice], scores=[501])
    assert (evaluated.method, evaluated.frames) == ("m, evaluations", [200])  # means 500 and 550


def test_a_run_that_never_reaches_a_score_counts_as_last() -> None:
    assert Reaching("t", "m", 1, [30.0, None, 10.0]).middle == 30
    assert Reaching("t", "m", 1, [30.0, 10.0]).middle == 20
    assert Reaching("t", "m", 1, [None, 10.0]).middle is None


def test_pauses_are_no_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("deploy.reports.metrics.time.time", lambda: now[0])
    run = make_run(tmp_path / "a")
    with MetricsWriter(run, tensorboard=False) as logs:
        for updates, now[0] in enumerate((1000.0, 1010.0, 9000.0, 9005.0)):
            logs.metrics(updates * 50, updates, {"train/cpu_seconds": (4, 9, 3, 5)[updates]})
    (found,) = costs([run], print)
    assert (found.frames, found.updates, found.seconds, found.cpu_seconds) == (250, 3, 35.0, 14)  # of two processes


def test_a_damaged_run_is_left_out_and_said_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_run(tmp_path / "runs" / name / "a")
    damaged = make_run(tmp_path / "runs" / "b")
    (damaged / "scores.jsonl").write_text("{}{\n")
    said: list[str] = []
    write_report([tmp_path / "runs"], tmp_path / "out", note=said.append)
    (line,) = said
    assert line.startswith(f"Left out: {damaged}/scores.jsonl, line 1 is not JSON")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "\n| one/a | " in text and "\n| two/a | " in text and "b | " not in text


def test_benchmarks_are_multiples_of_their_reference(tmp_path: Path) -> None:
    atari = score_file(
        tmp_path / "atari100k-sac.json", "sac", {"atari_pong": [14.6, -20.7], "atari_boxing": [24.1] * 2}
    )
    walker = score_file(tmp_path / "dmc_proprio-mine.json", "mine", {"dmc_walker_walk": [500.0, 700.0, 900.0]})
    found = {(one.benchmark.file, one.method): one for one in standings([atari, walker])}
    pong = found["atari100k", "sac"]
    assert pong.mean and pong.mean.value == pytest.approx(1.25)  # (0.5 + 2) / 2
    assert pong.iqm and pong.iqm.value == pytest.approx(1.5)  # of 0, 1, 2, 2
    own = found["dmc_proprio", "mine"]
    assert own.mean and own.mean.value == pytest.approx(0.7) and own.mean.runs == 3
    assert found["dmc_vision", "dreamerv3"].iqm is None and found["atari100k", "dreamerv3"].iqm is None


def test_a_report_of_runs_and_score_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = (0.0,) * 9 + (999.0,) * 11
    runs = [make_run(tmp_path / name, "dmc_walker_walk", seed, scores) for seed, name in enumerate("ab")]
    file = score_file(tmp_path / "dmc_proprio-dreamerv3.json", "dreamerv3", {"dmc_walker_walk": [800.0, 900.0, 1000.0]})
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as left:
        main(["report", *map(str, runs), "--baselines", str(file), "--out", str(out), "--title", "Walker & co"])
    assert left.value.code == 0
    written = capsys.readouterr().out.split()
    assert written == [str(out / name) for name in ("report.md", "report.html", "curves.png", "profiles.png")]
    text = (out / "report.md").read_text()
    assert "| dmc_walker_walk | Nexus | 2 | 2,000 | 999.0" in text
    assert "Nexus on dmc_walker_walk: 2 seeds: too few" in text
    assert "| dmc_walker_walk | 500 | Nexus | 1,500 | 2 of 2 | 1,500, 1,500 |" in text
    assert "| dmc_walker_walk | 500 | Nexus, evaluations | not reached | 0 of 2 | -, - |" in text
    assert "| DMC 500k, vectors: mean | no data | no data | 0.90 [0.80, 1.00] |" in text
    assert "| Atari 100k: IQM | no data | no data | no data |" in text
    page = (out / "report.html").read_text()
    assert "<h1>Walker &amp; co</h1>" in page and page.count("data:image/png;base64,") == 2
    assert not re.search(r'(src|href)="(?!data:)', page), "it needs no other file"
    for name in ("curves.png", "profiles.png"):
        assert np.asarray(Image.open(out / name).convert("L")).std() > 5


def test_nothing_to_report_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name a run, or give --baselines"):
        write_report([], tmp_path / "out")
    with pytest.raises(ValueError, match="None of the runs has a score"):
        write_report([tmp_path], tmp_path / "out", note=lambda line: None)
    other = score_file(tmp_path / "mine.json", "mine", {"dmc_walker_walk": [1.0]})
    with pytest.raises(ValueError, match="no score file is called atari100k-METHOD.json.gz, "):
        write_report([], tmp_path / "out", baselines=[other])
    assert not (tmp_path / "out").exists()


def test_what_documents_must_escape() -> None:
    sections = [Section("a<b", [Table(["x", "y"], [["1|2", "<i>"]]), "text & more"])]
    assert "| 1&#124;2 | <i> |" in markdown("t", sections)
    page = html("t", sections)
    assert "<td>1|2</td><td>&lt;i&gt;</td>" in page and "a&lt;b" in page and "text &amp; more" in page


@pytest.mark.skipif(not BASELINES.is_dir(), reason=f"there are no published scores in {BASELINES}")
def test_the_table_of_benchmarks_from_published_scores() -> None:
    files = sorted(BASELINES.glob("*.json.gz"))
    found = {(one.benchmark.file, one.method): one for one in standings(files)}
    for (benchmark, method), one in found.items():
        assert (one.iqm is None) == (not (BASELINES / f"{benchmark}-{method}.json.gz").exists())
    dreamer, ppo = found["atari100k", "dreamerv3"], found["atari100k", "ppo_fixhp"]
    assert dreamer.mean and ppo.mean and dreamer.mean.tasks == 26
    assert dreamer.mean.value == pytest.approx(1.23, abs=0.02) and ppo.mean.value == pytest.approx(0.11, abs=0.01)
    sac = found["dmc_vision", "sac"]
    assert sac.mean and sac.mean.runs == 9 and 0 < sac.mean.low < sac.mean.value < sac.mean.high < 1
