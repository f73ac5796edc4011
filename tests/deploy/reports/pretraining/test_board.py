"""What a pretraining run shows, logs and sums up."""

import io
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from deploy.reports.pretraining.board import PretrainBoard, PretrainProgress
from deploy.reports.pretraining.summary import draw, measured
from deploy.wiring.pretrain_presets import preset
from deploy.wiring.pretraining import PretrainConfig
from tests.integration.runs import lines

VALUES = {"loss/total": 0.25, "optimizer/learning_rate": 1e-3, "target/momentum": 0.9965, "probe/effective_rank": 17.3}


def config() -> PretrainConfig:
    return preset("vjepa2", "tiny")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_line_has_what_is_known() -> None:
    console, clock = Console(file=io.StringIO(), width=100), Clock()
    progress = PretrainProgress(config(), console=console, clock=clock)
    progress.done(0, "measuring")
    progress.add({"train/loss/total": 0.25, "train/target/momentum": 0.9965, "probe/effective_rank": 17.3})
    progress.speed, clock.now = 64.0, 110.0
    progress.done(30, "training")
    assert progress.line() == (
        "30/3,000 updates (1%)  loss 0.25  effective rank 17.3  EMA 0.9965  clips/s 64  elapsed 0:10  "
        "ETA 16:30  training"
    )
    progress.add({"train/loss/total": 0.2})
    assert progress.curve() == ("loss", [0.25, 0.2], "now 0.2")


def test_lines_of_metrics_have_the_keys_of_a_run_and_go_back(tmp_path: Path) -> None:
    with PretrainBoard(config(), tmp_path) as board:
        board.begin(0)
        board.log(10, VALUES | {"data/unreadable": 2})
        kept = board.state()
        board.log(20, VALUES)
        board.load(kept)
    (line,) = lines(tmp_path / "metrics.jsonl")
    assert (line["updates"], line["frames"]) == (10, 10 * 32 * 8)
    assert line["train/loss/total"] == 0.25 and line["train/optimizer/learning_rate"] == 1e-3
    assert line["probe/effective_rank"] == 17.3 and line["data/unreadable"] == 2


def test_the_summary_says_where_it_began_and_ended_and_draws_it(tmp_path: Path) -> None:
    log: list[dict[str, Any]] = [
        {"updates": u, "train/loss/total": 1 / (u + 1), "probe/effective_rank": u + 1.0} for u in range(5)
    ]
    log.append({"updates": 5, "train/loss/total": None, "probe/effective_rank": None})  # not finite
    assert measured(log) == ["effective rank:  5 at update 4 (1 at 0)"]
    with Image.open(draw(log, tmp_path / "curve.png")) as picture:
        assert picture.width > picture.height > 200  # two panels side by side
    draw([], tmp_path / "empty.png")
