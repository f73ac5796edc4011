"""The audit of a run that was scaled finds what is lost, doubled, or nobody's."""

import pytest

from replay.keys import stream_id
from tests.benchmarks.fleet_scaling import waited
from tests.benchmarks.fleet_scaling_audit import compare
from tests.benchmarks.fleet_scaling_witness import Life, Wait

LIVES = [Life(0, [0], [0, 1], 64), Life(1, [0], [2], 16), Life(1, [1], [2], 48)]
WHOLE = {
    stream_id(0, 0, 0): range(32),
    stream_id(0, 0, 1): range(32),
    stream_id(1, 0, 2): range(16),
    stream_id(1, 1, 2): range(48),
}


def test_steps_that_were_reported_and_are_stored_once_are_right() -> None:
    assert compare(LIVES, WHOLE) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({stream_id(1, 1, 2): range(47)}, "48 reported, 47 stored"),
        ({stream_id(1, 1, 2): range(49)}, "48 reported, 49 stored"),
        ({stream_id(0, 0, 0): range(1, 33)}, "begins at step 1"),
        ({stream_id(7, 0, 0): range(16)}, "nobody has reported"),
    ],
)
def test_a_step_too_few_or_too_many_is_found(change: dict[int, range], message: str) -> None:
    assert any(message in line for line in compare(LIVES, WHOLE | change))


def test_two_lives_with_one_stream_are_found() -> None:
    assert any("another life" in line for line in compare([*LIVES, LIVES[1]], WHOLE))


def test_the_longest_wait_is_told_by_what_was_waited_for() -> None:
    some = [Wait(10.0, 0.1, 0.2, 1.0), Wait(14.0, 1.5, 0.5, 1.5), Wait(30.0, 9.0, 0.0, 2.0)]
    found = waited(some, 9.0, 15.0)
    assert (found["longest"], found["by_limiter"], found["by_prefetch"]) == (2.0, 1.5, 0.5)
    assert found["updates"] == 2 and found["without_a_core"] == 0.5


def test_a_wait_that_lasts_beyond_the_time_asked_about_is_part_of_it() -> None:
    assert waited([Wait(20.0, 8.0, 0.0, 0.0)], 10.0, 15.0)["longest"] == 8.0
    assert waited([], 10.0, 15.0)["longest"] == 0.0
