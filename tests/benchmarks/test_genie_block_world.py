"""What the block world's benchmark reads of runs, and what it asks of them."""

import json
from pathlib import Path

import pytest

from tests.benchmarks import genie_block_world

GOOD = {
    "psnr_1": 27.0, "copy_psnr_1": 22.6, "psnr_4": 24.0, "copy_psnr_4": 21.1, "ssim_1": 0.98, "ssim_4": 0.95,
    "delta_psnr_1": 2.0, "delta_psnr_1_interval": [1.9, 2.1], "delta_psnr_4": 2.0, "delta_psnr_4_interval": [1.9, 2.1],
    "action_nmi": 0.9, "shuffled_nmi": 0.01, "action_shuffle_ratio": 2.0, "tokenizer_psnr": 35.0,
    "codebook_perplexity": 400.0, "codebook_used": 700.0,
}  # fmt: skip


def saved(folder: Path, **changes: float) -> Path:
    for stage in genie_block_world.STAGES:
        (folder / stage).mkdir(parents=True)
        lines = [{"updates": n, "time": 1000.0 + 300 * n} for n in range(2)]
        (folder / stage / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "dynamics" / "evaluation.json").write_text(json.dumps(GOOD | changes))
    return folder


def test_runs_that_are_there_are_read_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = saved(tmp_path / "a"), saved(tmp_path / "b", action_nmi=0.5, copy_psnr_1=23.0)
    assert genie_block_world.main(["--runs", str(good)]) == 0
    assert genie_block_world.main(["--runs", str(good), str(bad)]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    assert report["failed"] == {"b": ["action_nmi", "copy_psnr_1"]} and report["value"] == pytest.approx(4.0)
    assert "| delta_psnr_4 | 2 [1.90, 2.10] | 2 [1.90, 2.10] |" in lines and "| dynamics, s | 300 | 300 |" in lines
    assert "b misses action_nmi, copy_psnr_1" in lines
