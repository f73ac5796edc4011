"""The tables of the benchmark of agents' data."""

from tests.benchmarks.genie_agent_data import SOURCES, lines


def test_worlds_and_policies_are_tabled_with_intervals() -> None:
    found = {"psnr_4": 24.6, "copy_psnr_4": 22.2, "delta_psnr_4": 4.06, "delta_psnr_4_interval": [3.68, 4.48]}
    worlds = {source: dict.fromkeys(SOURCES, found) for source in SOURCES}
    out = lines(worlds, {"random": {"success": 0.22, "interval95": (0.18, 0.27)}})
    assert "| random | agent | 24.60 (22.20) | 4.06 [3.68, 4.48] |" in out
    assert len([line for line in out if line.startswith(("| agent", "| random |"))]) == 5
    assert out[-1] == "| random | 0.220 [0.180, 0.270] |"
