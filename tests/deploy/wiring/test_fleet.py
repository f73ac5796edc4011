"""Which environments each worker of a run steps."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.wiring.fleet import Fleet, Share
from replay.keys import SLOTS


def test_workers_of_the_start_divide_the_environments_and_later_ones_bring_their_own() -> None:
    fleet = Fleet(environments=5, actors=2)
    assert [fleet.share(worker) for worker in range(4)] == [
        Share([0, 2, 4], [0, 1, 2]), Share([1, 3], [3, 4]), Share([5, 6, 7], [5, 6, 7]), Share([8, 9, 10], [8, 9, 10]),
    ]  # fmt: skip
    assert [fleet.total(workers) for workers in range(5)] == [0, 3, 5, 8, 11]


@given(data=st.data(), environments=st.integers(1, 60), workers=st.integers(1, 90))
def test_no_environment_and_no_slot_is_given_out_twice(data: st.DataObject, environments: int, workers: int) -> None:
    fleet = Fleet(environments, data.draw(st.integers(1, environments)))
    shares = list(fleet.shares(workers))
    indices = [index for share in shares for index in share.indices]
    slots = [slot for share in shares for slot in share.slots]
    assert len(set(indices)) == len(indices) == fleet.total(workers)
    assert slots == list(range(len(slots))), "consecutive, so that streams spread over the shards"
    if workers >= fleet.actors:
        assert set(indices) >= set(range(environments))
        assert all(len(share.indices) == fleet.each for share in shares[fleet.actors :])


def test_more_than_streams_can_name_are_refused() -> None:
    fleet = Fleet(environments=1000, actors=2)
    assert fleet.share(fleet.most - 1).slots[-1] < SLOTS
    with pytest.raises(ValueError, match=f"replay can name {SLOTS}. Use at most {fleet.most} actors of 500"):
        fleet.share(fleet.most)


def test_the_last_of_many_workers_is_found_without_counting_through_the_others() -> None:
    fleet = Fleet(environments=1 << 15, actors=1 << 15)
    begun = time.monotonic()
    assert fleet.share((1 << 15) - 1).slots == [(1 << 15) - 1] and fleet.total(1 << 15) == 1 << 15
    assert time.monotonic() - begun < 5  # seconds; counting takes minutes
