"""The soak of whole runs notices what it should, and a short one passes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.run_soak import PAIRS, main, plan
from tests.benchmarks.run_soak_audit import SoakError, require_forward
from tests.benchmarks.run_soak_judge import judge
from tests.benchmarks.run_soak_site import roles
from tests.benchmarks.run_soak_world import Counting


def recorded(episodes: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows as replay has them, of whole episodes."""
    rng, world = np.random.default_rng(seed), Counting()
    rows: dict[str, list] = {key: [] for key in ("vector", "action", "reward", "is_first", "is_last", "is_terminal")}
    for _ in range(episodes):
        seen, _ = world.reset(seed=int(rng.integers(1 << 31)))
        paid, first, terminal, truncated = 0.0, True, False, False
        while True:
            last = terminal or truncated
            action = 0 if last else int(rng.integers(3))
            for key, value in zip(rows, (seen, action, paid, first, last, terminal), strict=True):
                rows[key].append(value)
            if last:
                break
            seen, paid, terminal, truncated, _ = world.step(np.int64(action))
            first = False
    types = {"vector": np.float32, "action": np.int32, "reward": np.float32}
    return {key: np.array(value, types.get(key, np.bool_)) for key, value in rows.items()}


def test_whole_episodes_are_whole() -> None:
    rows = recorded()
    found = judge(rows)
    assert found.torn == [] and found.abandoned == 0 and found.rows == len(rows["reward"])


def _lose(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: np.delete(value, 5, 0) for key, value in rows.items()}


def _other_life(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same seeds with other actions take over in the middle of an episode, as when a dead life's rows are kept."""
    again = recorded(1)
    again["action"][:] = (again["action"] + 1) % 3
    return {key: np.concatenate([again[key][:6], value[6:]]) for key, value in rows.items()}


def _unmark(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    second = int(np.flatnonzero(rows["is_first"])[1])
    rows["is_first"][second] = False
    return rows


def _pay(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    rows["reward"][3] += 1
    return rows


@pytest.mark.parametrize("tear", [_lose, _other_life, _unmark, _pay])
def test_what_does_not_belong_together_is_found(tear: Callable[[dict], dict]) -> None:
    assert judge(tear(recorded())).torn


def test_an_episode_that_is_broken_off_is_counted() -> None:
    first, second = recorded(1), recorded(1, seed=1)
    joined = {key: np.concatenate([value[:-2], second[key]]) for key, value in first.items()}
    found = judge(joined)
    assert found.torn == [] and found.abandoned == 1


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ([{"frames": 5, "updates": 2}, {"frames": 5, "updates": 1}], "from 2 to 1 updates"),
        ([{"frames": 5, "updates": 2}, {"frames": 4, "updates": 3}], "from 5 to 4 frames"),
        ([{"frames": 5, "updates": 2, "kind": "train", "seed": 7}] * 2, "seed 7 twice"),
    ],
)
def test_curves_that_go_backwards_are_found(tmp_path: Path, written: list[dict], message: str) -> None:
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written) + '{"frames": 1')
    with pytest.raises(SoakError, match=message):
        require_forward(tmp_path)


def test_every_role_of_every_pair_is_killed_and_ctrl_c_pressed_once_and_twice() -> None:
    faults = plan(PAIRS, 40, 4, seed=0)
    assert sum(map(len, faults.values())) == 40
    for pair, some in faults.items():
        assert {fault.role for fault in some if fault.how == "killed"} == set(roles(pair))
    everything = [str(fault) for some in faults.values() for fault in some]
    assert "driver Ctrl-C" in everything and "driver Ctrl-C twice" in everything
    assert sum(word.endswith("stopped") for word in everything) == 4


def test_a_short_soak_passes(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--pairs", "local/disk,inline/redis", "--faults", "5", "--stops", "0", "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    result = json.loads(out.splitlines()[-1])
    assert result["torn"] == 0 and result["failed"] == [] and result["faults"] >= 5
    assert result["sequences_sampled"] > 500 and result["steps_audited"] > 500
