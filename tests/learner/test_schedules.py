"""Schedules by hand."""

import pytest

from learner.schedules import Schedule


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Schedule(top=3.0), [3, 3, 3, 3]),
        (Schedule(kind="linear", top=1.0, end=0.0), [0.75, 0.5, 0.25, 0]),
        (Schedule(kind="cosine", start=0.0, top=1.0, end=0.5, warmup=2), [0.5, 1, 0.75, 0.5]),
        (Schedule(kind="warmup_constant", start=0.0, top=1.0, warmup=2), [0.5, 1, 1, 1]),
        (Schedule(kind="warmup_stable_decay", start=0.0, top=1.0, end=0.0, warmup=1, anneal=2), [1, 1, 0.5, 0]),
    ],
    ids=lambda x: getattr(x, "kind", ""),
)
def test_four_updates(schedule: Schedule, values: list[float]) -> None:
    assert [schedule.at(i, 4) for i in range(1, 5)] == pytest.approx(values)


def test_a_longer_run_than_planned_keeps_the_last_value() -> None:
    assert Schedule(kind="cosine", top=1.0, end=0.5).at(9, 4) == 0.5
    assert Schedule(kind="warmup_stable_decay", top=1.0, end=0.25, anneal=2).at(9, 4) == 0.25


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="'step'.*cosine"):
        Schedule(kind="step")
    with pytest.raises(ValueError, match="warmup=-1"):
        Schedule(warmup=-1)
