"""The bad runs of the health benchmark are bad in the way they claim."""

from pathlib import Path

import gymnasium
import numpy as np
import torch

from deploy.inline_run import InlineRun
from deploy.reports.health.verdicts import PITFALLS
from tests.benchmarks.health import CASES, configured, judge
from tests.benchmarks.health_world import CHANGE, MemorylessRSSM, paying_for_speed
from tests.deploy.reports.health.written_reports import report, write
from tests.world_models.small_agent import CONFIG


def test_three_causes_at_two_severities_and_three_healthy_runs(tmp_path: Path) -> None:
    parts = [case.part for case in CASES.values()]
    assert sorted(parts) == ["", "", "", "forgetting", "forgetting", "horizon", "horizon", "returns", "returns"]
    assert set(parts) <= {"", *PITFALLS}
    healthy = {case.task for case in CASES.values() if not case.part}
    assert len(healthy) == 3 and healthy.isdisjoint(case.task for case in CASES.values() if case.part)
    for case in CASES.values():
        config = configured(case, tmp_path)
        sampled = config.frames / config.environment.action_repeat * config.learner.train_ratio
        assert sampled > case.updates * config.learner.batch_size * config.learner.batch_length


def test_the_hidden_and_the_changing_task() -> None:
    hidden, changing = (
        gymnasium.make(f"tests.benchmarks.health_world:{name}CartPole-v0").unwrapped for name in ("Hidden", "Changing")
    )
    full = gymnasium.make("CartPole-v1").unwrapped
    np.testing.assert_array_equal(hidden.reset(seed=1)[0], full.reset(seed=1)[0][::2])
    np.testing.assert_array_equal(hidden.step(1)[0], full.step(1)[0][::2])
    full.reset(seed=1)
    first = changing.reset(seed=1)[0]
    np.testing.assert_array_equal(changing.step(1)[0], [*full.step(1)[0], 0.0])
    changing.taken = CHANGE  # type: ignore[attr-defined]
    np.testing.assert_array_equal(changing.reset(seed=1)[0], [*-first[3::-1], 1.0])
    pushed = changing.step(1)[0]
    assert np.sign(-pushed[2]) == -np.sign(full.step(1)[0][1])  # the cart's velocity, pushed the other way


def test_a_memoryless_model_forgets_all() -> None:
    rssm = MemorylessRSSM(CONFIG.rssm, 2, 3)
    one, other = (torch.randn(4, CONFIG.rssm.deter) for _ in range(2))
    stoch, action = torch.randn(2, 4, rssm.stoch_width), torch.randn(4, CONFIG.rssm.hidden)
    assert torch.equal(rssm.core(one, stoch[0], action), rssm.core(other, stoch[1], action))


def test_the_bonus_is_learned_but_not_stored(tmp_path: Path) -> None:
    case = CASES["reward_bonus_4"]
    run = InlineRun(configured(case, tmp_path), tmp_path)
    run.actor = run._build_actor(-1)
    for _ in range(60):
        run.actor.step()
    learned, keys = paying_for_speed(run, case.bonus)(0)
    for i, (stream, first) in enumerate(keys[:, 0].tolist()):
        stored = run.store.read(stream, first, keys.shape[1])
        fast = (stored["vector"][:, 2] > 1) & ~learned["is_first"][i]
        np.testing.assert_allclose(learned["reward"][i] - stored["reward"], 4.0 * fast, atol=1e-5)
        assert (stored["reward"] <= 0).all()
    assert len(np.unique(learned["reward"] > 0)) == 2
    run.actor.environments.close()
    run.first_environment.close()
    run.store.close()
    run.board.metrics.close()


def test_a_run_is_judged_by_all_its_reports(tmp_path: Path) -> None:
    (tmp_path / "scores.jsonl").write_text('{"frames": 1, "score": 2.0}\n{"frames": 2, "score": 4.0}\n')
    write(tmp_path, report(200), report(400, gained=1.2), report(600, gained=1.3), report(800), report(1000))
    found = judge("short_batches", tmp_path)
    assert found["ok"] and found["flagged"] == ["horizon"] and found["first"] == 600 and found["score"] == 3.0
    assert found["others"] == []
    assert found["values"]["horizon"] == [None, 1.2, 1.3, 0.3, 0.3]  # the first comes before the warm-up
    assert not judge("acrobot", tmp_path)["ok"] and not judge("recency_3", tmp_path)["ok"]
    write(tmp_path, *(report(updates, optimism=6.0, gained=1.2 * (updates > 400)) for updates in range(200, 1200, 200)))
    both = judge("short_batches", tmp_path)
    assert both["ok"] and both["others"] == ["returns"] and both["first"] == 800
    assert judge("acrobot", tmp_path)["others"] == ["horizon", "returns"]
