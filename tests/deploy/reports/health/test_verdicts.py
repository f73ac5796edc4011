"""Each verdict follows from its own numbers, whatever the units, and only from what lasts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.reports.health.verdicts import FIELDS, PITFALLS, Verdict, gained, size, unhealthy, verdicts
from deploy.wiring.config import HealthConfig
from tests.deploy.reports.health.written_reports import report
from world_models.dataclass_json import from_json

RULES = HealthConfig()
BAD: dict[str, dict[str, Any]] = {
    "horizon": {"gained": 1.3},
    "returns": {"optimism": 6.0},
    "reward": {"miscalibrated": 0.4},
    "forgetting": {"oldest": 1.2, "newest": 0.3, "rise": 2.5},
}
"""What makes a part unhealthy."""


def judged(*reports: dict[str, Any], rules: HealthConfig = RULES) -> dict[str, Verdict]:
    return {one.name: one for one in verdicts(reports, rules)}


def test_a_healthy_run_raises_nothing_and_says_so() -> None:
    found = judged(report(1000), report(1500), report(2000))
    assert {name: one.state for name, one in found.items()} == dict.fromkeys(PITFALLS, "healthy")
    assert found["horizon"].value == pytest.approx(0.3) and found["horizon"].threshold == 1.0
    assert (
        found["horizon"].text
        == "Up to step 15, predictions gain 0.30 times the error of repeating the last observation."
    )
    assert found["forgetting"].text == (
        "The loss on the oldest tenth of replay is 1.29 times that on the newest, and on the same old windows it is "
        "1.00 times its lowest so far."
    )
    assert found.keys() == FIELDS.keys()


@pytest.mark.parametrize("part", BAD)
def test_each_part_is_flagged_for_its_own_reason_once_it_lasts(part: str) -> None:
    bad = [report(updates, **BAD[part]) for updates in (1500, 2000)]
    once = judged(report(1000), bad[0])
    assert once[part].state == "watch"
    lasting = verdicts([report(1000), *bad], RULES)
    assert [one.name for one in unhealthy(lasting)] == [part]


def test_what_was_unhealthy_is_so_until_it_is_well_within_the_threshold() -> None:
    over, near, good, unmeasured = report(gained=1.1), report(gained=0.9), report(gained=0.5), report()
    unmeasured["horizon"] = None
    for later, state in (
        ([], "unhealthy"), ([near, near, near], "unhealthy"), ([good], "unhealthy"), ([good, good], "healthy"),
        ([good, near, good], "unhealthy"), ([good, good, over], "watch"), ([good, good, near], "watch"),
        ([unmeasured, near], "unhealthy"), ([unmeasured], "unknown"),
    ):  # fmt: skip
        assert judged(over, over, *later)["horizon"].state == state, [one["horizon"] for one in later]
    assert judged(over, over, good)["horizon"].text.endswith("until it is well within the threshold 2 times.")
    assert judged(over, near, near)["horizon"].state == "watch"


@pytest.mark.parametrize("part", BAD)
def test_rules_can_be_turned_off_and_wait_for_the_warm_up(part: str) -> None:
    bad = [report(updates, **BAD[part]) for updates in (1500, 2000)]
    off = judged(report(1000), *bad, rules=from_json(HealthConfig, {FIELDS[part]: 0.0}))[part]
    assert off.state == "unknown" and off.text == f"The rule is off: health.{FIELDS[part]}=0."
    early = judged(report(1000), *bad, rules=HealthConfig(warmups=21.0))[part]
    assert early.state == "unknown" and early.text == "Not judged before update 2,100; this is update 2,000."
    late = judged(report(1000), *bad, rules=HealthConfig(warmups=18.0))[part]
    assert late.state == "watch"  # one report after the warm-up alone


@given(st.floats(0.01, 1e3))
def test_the_unit_of_rewards_and_observations_does_not_count(scale: float) -> None:
    plain = [report(updates, optimism=4.0, miscalibrated=0.2, gained=0.8) for updates in (1000, 1500)]
    scaled = [report(updates, optimism=4.0, miscalibrated=0.2, gained=0.8) for updates in (1000, 1500)]
    for one in scaled:
        for key in ("imagined", "real"):
            one["returns"][key] = [scale * value for value in one["returns"][key]]
        for key in ("error", "mean", "deviation"):
            one["reward"][key] *= scale
        for key in ("oldest", "newest"):
            one["forgetting"][key] *= scale
        curve = one["horizon"]["keys"]["vector"]
        curve |= {key: [scale * value for value in curve[key]] for key in ("gained", "still")}
        curve["start"] *= scale
    for ours, theirs in zip(verdicts(plain, RULES), verdicts(scaled, RULES), strict=True):
        assert ours.state == theirs.state and ours.value == pytest.approx(theirs.value)


def test_old_data_that_was_always_harder_is_not_forgotten() -> None:
    for rise in (None, 0.8, 1.0, 1.28):  # even the third report in a row
        hard = [report(updates, oldest=2.0, newest=0.2, rise=rise) for updates in (1000, 1500, 2000)]
        found = judged(*hard)["forgetting"]
        assert found.state == "healthy" and found.value == pytest.approx(10.0)
    assert judged(report(oldest=2.0, newest=0.2, rise=1.3))["forgetting"].state == "watch"


def test_the_oldest_tenth_may_become_harder_as_replay_moves_on() -> None:
    moving = [report(updates, oldest=oldest, newest=0.2) for updates, oldest in ((1000, 0.3), (1500, 0.9), (2000, 2.0))]
    assert judged(*moving)["forgetting"].state == "healthy"  # the same windows are as hard as before


def test_a_model_that_is_worse_at_everything_for_a_while_forgets_nothing() -> None:
    def found(apart: float) -> Verdict:
        return judged(*(report(updates, oldest=2.0, newest=0.5, rise=3.0, apart=apart) for updates in (1000, 1500)))[
            "forgetting"
        ]

    assert found(1.1).state == "healthy" and found(2.8).state == "unhealthy"
    assert found(1.1).text.endswith("3.00 times its lowest so far (1.10 times relative to the newest).")


def test_a_chance_gap_between_few_returns_is_not_optimism() -> None:
    bad = [report(updates) for updates in (1000, 1500)]
    for one in bad:  # a rare success in imagination, none in reality
        one["returns"] |= {"imagined": [1.0, *[0.0] * 63], "real": [0.0] * 64}
    found = judged(*bad)["returns"]
    assert found.state == "healthy" and found.value == pytest.approx(333 / 15 / 64)
    for one in bad:
        one["returns"] |= {"imagined": [0.6] * 64}
    assert judged(*bad)["returns"].state == "unhealthy"


def test_states_of_a_few_episodes_are_too_alike_for_certainty() -> None:
    few, enough = ([report(updates, optimism=6.0, episodes=n) for updates in (1000, 1500)] for n in (4, 5))
    assert judged(*few)["returns"].state == "watch" and "64 states of 4 episodes" in judged(*few)["returns"].text
    assert judged(*enough)["returns"].state == "unhealthy"


def test_rewards_too_small_to_move_the_policy_are_not_judged_by_their_own_size() -> None:
    tiny = [report(updates) for updates in (1000, 1500)]
    for one in tiny:  # as of a task that gives nothing until it is solved
        one["returns"] |= {"imagined": [0.01] * 64, "real": [1e-20] * 64}
        one["reward"] |= {"error": 0.001, "mean": 1e-21, "deviation": 1e-21}
    found = judged(*tiny)
    assert found["returns"].state == found["reward"].state == "healthy"
    assert found["returns"].value == pytest.approx(0.01 * 333 / 15) and found["reward"].value == pytest.approx(0.333)


def test_small_rewards_that_the_policy_can_tell_apart_are_judged_by_their_own_size() -> None:
    small = [report(updates) for updates in (1000, 1500)]
    for one in small:  # 0.02 a step: a full return of 6.7
        one["returns"] |= {"imagined": [0.9] * 64, "real": [0.3] * 64}
        one["reward"] |= {"error": 0.02, "mean": 0.02, "deviation": 0.0}
    found = judged(*small)
    assert found["returns"].state == found["reward"].state == "unhealthy"
    assert found["returns"].value == pytest.approx(4.0) and found["reward"].value == pytest.approx(2.0)
    for one in small:
        one["returns"] = None  # as offline
    assert judged(*small)["reward"].value == pytest.approx(2.0)


def test_where_rewards_are_rare_hoping_for_a_part_of_one_is_not_optimism() -> None:
    def found(largest: float) -> dict[str, Verdict]:
        rare = [report(updates) | {"largest_reward": largest} for updates in (1000, 1500)]
        for one in rare:  # none of these episodes has met a reward
            one["returns"] |= {"imagined": [0.14] * 64, "real": [0.0] * 64}
            one["reward"] |= {"error": 0.01, "mean": 0.0, "deviation": 0.0}
        return judged(*rare)

    assert found(0.0)["returns"].state == found(0.0)["reward"].state == "unhealthy"
    met = found(1.0)
    assert met["returns"].state == met["reward"].state == "healthy"
    assert met["returns"].value == pytest.approx(0.14) and met["reward"].value == pytest.approx(0.01 * 15)
    assert found(0.2)["returns"].state == "unhealthy"  # most of one, always


def test_memory_and_actions_are_only_to_watch() -> None:
    blind = [report(updates, sensitivity=1.0, memory=1.0, gained=0.9) for updates in (1000, 1500)]
    found = judged(*blind)
    assert found["actions"].state == found["memory"].state == "watch"
    assert judged(report(1000, memory=1.0))["memory"].state == "healthy"  # predictions are good without


def test_what_the_numbers_mean() -> None:
    assert size([1.0, 1.0]) == 0.5 and size([-1.0, 1.0]) == 1.0 and size([0.0]) == 0.0
    curve = {"gained": [0.1] * 10 + [0.4] * 5, "still": [0.4] * 15, "start": 0.1}
    assert gained(curve) == pytest.approx(1.0)
    assert gained(curve | {"gained": [None] * 15}) is None
    assert gained(curve | {"still": [0.05] * 15}) is None  # the reconstruction alone is worse
    short = {"gained": [0.1, 0.2, None], "still": [0.4, 0.5, None], "start": 0.1}
    assert gained(short) == pytest.approx(0.4)


def test_predictions_that_ignore_their_state_are_a_compounding_error() -> None:
    found = judged(*(report(updates, gained=0.6, state=1.0) for updates in (1000, 1500)))["horizon"]
    assert found.state == "unhealthy" and found.text.startswith(
        "From the state of another window, predictions have 1.00"
    )
    alike = [report(updates) for updates in (1000, 1500)]
    for one in alike:  # all windows are
        one["horizon"]["state"] = None
    assert judged(*alike)["horizon"].state == "healthy"


def test_keys_count_by_their_elements() -> None:
    both = [report(updates, gained=0.2) for updates in (1000, 1500)]
    for one in both:
        keys = one["horizon"]["keys"]
        keys["direction"] = keys["vector"] | {"gained": keys["vector"]["still"], "elements": 1}
        keys["vector"]["elements"] = 3
    found = judged(*both)["horizon"]
    assert found.value == pytest.approx((3 * 0.2 + 1.0) / 4) and found.text.endswith("; direction has 1.00.")


def test_what_is_missing_or_damaged_is_unknown() -> None:
    assert {one.state for one in verdicts([], RULES)} == {"unknown"}
    odd = report()
    odd |= {"returns": None, "missing": {"returns": "too small"}, "horizon": {"keys": 3}, "reward": {"error": None}}
    odd |= {"forgetting": [], "actions": {"ratio": float("nan")}, "cost": {}}
    found = judged(odd)
    assert found["returns"].text == "too small"
    assert {name for name, one in found.items() if one.state != "unknown"} <= {"memory"}
    assert {one.state for one in verdicts([{}], RULES)} == {"unknown"}


def test_wrong_rules_are_refused() -> None:
    with pytest.raises(ValueError, match=r"health\.optimism=-1 must not be negative"):
        HealthConfig(optimism=-1.0)
    with pytest.raises(ValueError, match=r"health\.patience=0"):
        HealthConfig(patience=0)
