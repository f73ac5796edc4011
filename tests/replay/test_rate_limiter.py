import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.rate_limiter import RateLimiter

Wait = Callable[[int, float], Awaitable[int]]


async def passes(wait: Wait, n: int) -> bool:
    try:
        return await wait(n, 0.0) == 1
    except TimeoutError:
        return False


def allowed(wait: Wait, n: int) -> bool:
    return asyncio.run(passes(wait, n))


def now(wait: Wait, n: int, timeout: float) -> None:
    async def call() -> None:
        await wait(n, timeout)

    asyncio.run(call())


def test_numbers_of_reverbs_limiter() -> None:
    limiter = RateLimiter(samples_per_insert=2.0, tolerance=10.0, min_size=5)
    assert not allowed(limiter.sample, 1)
    assert allowed(limiter.insert, 5)  # diff 10, the middle of 0 .. 20
    assert allowed(limiter.insert, 5) and not allowed(limiter.insert, 1)  # diff 20
    assert allowed(limiter.sample, 2) and allowed(limiter.insert, 1)
    assert all(allowed(limiter.sample, 5) for _ in range(4)) and not allowed(limiter.sample, 1)  # diff 0
    assert limiter.state() == {"inserts": 11, "samples": 22}


def test_time_outs_name_what_is_waited_for() -> None:
    limiter = RateLimiter(samples_per_insert=4.0, tolerance=8.0)
    with pytest.raises(TimeoutError, match="sample of 2 steps waited 0.01 s until more is inserted: 0 inserted"):
        now(limiter.sample, 2, 0.01)
    for _ in range(3):
        now(limiter.insert, 1, 0.01)
    with pytest.raises(TimeoutError, match=r"insert of 1 steps waited 0.01 s until more is sampled: 3 inserted, 0 s"):
        now(limiter.insert, 1, 0.01)


def test_sizes_that_could_block_each_other_are_refused() -> None:
    limiter = RateLimiter(samples_per_insert=1.0, tolerance=10.0)
    now(limiter.insert, 11, 0.1)
    with pytest.raises(ValueError, match="set the tolerance to at least 10.5"):
        now(limiter.sample, 10, 0.1)


def test_no_ratio_couples_nothing_but_the_minimum() -> None:
    limiter = RateLimiter(samples_per_insert=0.0, tolerance=0.0, min_size=3)
    assert allowed(limiter.insert, 2) and not allowed(limiter.sample, 1)
    assert all(allowed(limiter.insert, 1000) for _ in range(5)) and allowed(limiter.sample, 10**9)


def test_a_waiting_sampler_is_woken_by_an_insert() -> None:
    async def both() -> None:
        waiting = asyncio.create_task(limiter.sample(4, 20))
        assert not (await asyncio.wait([waiting], timeout=0.05))[0]
        await limiter.insert(2, 20)
        await asyncio.wait_for(waiting, 20)

    limiter = RateLimiter(samples_per_insert=1.0, tolerance=10.0, min_size=2)
    asyncio.run(both())
    assert limiter.stats()["sample_waited_seconds"] > 0


def test_waiting_counts_while_it_lasts_and_when_it_ends_in_vain() -> None:
    async def wait() -> list[float]:
        waiting = asyncio.create_task(limiter.sample(4, 0.2))
        seen = []
        while not waiting.done():
            await asyncio.sleep(0.02)
            seen.append(limiter.stats()["sample_waited_seconds"])
        with pytest.raises(TimeoutError):
            await waiting
        return seen

    limiter = RateLimiter(samples_per_insert=1.0, tolerance=10.0, min_size=2)
    seen = asyncio.run(wait())
    assert seen == sorted(seen) and 0 < seen[0] < 0.15 and seen[-1] >= 0.19
    assert limiter.stats()["insert_waited_seconds"] == 0


def test_those_who_wait_are_served_in_their_order_and_one_that_gives_up_keeps_nobody_waiting() -> None:
    served: list[int] = []

    async def insert(n: int, timeout: float = 60.0) -> None:
        await limiter.insert(n, timeout)
        served.append(n)

    async def all_of_them() -> None:
        await insert(20)
        tasks = [asyncio.create_task(insert(n)) for n in (8, 1, 2)]
        await asyncio.sleep(0)
        limiter.give_back(-4)  # four samples: room for the small ones, but the large one came first
        await asyncio.sleep(0.02)
        assert served == [20]
        await limiter.sample(8, 20)
        await asyncio.gather(*tasks)
        assert served == [20, 8, 1, 2]
        impatient, patient = asyncio.create_task(insert(9, 0.05)), asyncio.create_task(insert(3))
        await asyncio.sleep(0)
        limiter.give_back(-4)
        with pytest.raises(TimeoutError, match="insert of 9 steps waited 0.05 s"):
            await impatient
        await asyncio.wait_for(patient, 20)

    limiter = RateLimiter(samples_per_insert=1.0, tolerance=19.0)
    asyncio.run(all_of_them())


def test_several_blocks_pass_at_once_if_so_many_are_allowed_and_one_while_replay_is_filling() -> None:
    async def blocks() -> list[int]:
        passed = [await limiter.insert(4, 1, most) for most in (9, 9, 9)]  # diff 4, 8, then up to 20
        waiting = asyncio.create_task(limiter.insert(4, 20, 9))
        await asyncio.sleep(0)
        await limiter.sample(9, 1)  # diff 11: room for two
        return [*passed, await asyncio.wait_for(waiting, 20)]

    limiter = RateLimiter(samples_per_insert=1.0, tolerance=12.0, min_size=8)
    assert asyncio.run(blocks()) == [1, 1, 3, 2]
    assert limiter.state() == {"inserts": 28, "samples": 9}


@pytest.mark.parametrize("side", ["insert", "sample"])
def test_whoever_waits_can_be_woken_with_nothing_counted(side: str) -> None:
    async def woken() -> int:
        waiting = asyncio.create_task(getattr(limiter, side)(4, 20.0))
        await asyncio.sleep(0)
        limiter.wake()
        return await asyncio.wait_for(waiting, 20)

    limiter = RateLimiter(samples_per_insert=1.0, tolerance=6.0, min_size=1 if side == "insert" else 10)
    assert [allowed(limiter.insert, 4), allowed(limiter.insert, 3)] == [True, True]  # diff 7
    before = limiter.state()
    assert asyncio.run(woken()) == 0
    assert limiter.state() == before
    limiter.give_back(-4)
    assert allowed(limiter.insert, 4), "whoever was woken stands in nobody's way"


def test_a_least_size_may_change_only_until_sampling_begins() -> None:
    limiter = RateLimiter(1.0, tolerance=100.0, min_size=5)
    limiter.require(8)
    now(limiter.insert, 6, 1)
    assert not allowed(limiter.sample, 1)
    limiter.require(6)
    assert allowed(limiter.sample, 1)
    limiter.require(50)
    assert allowed(limiter.sample, 1)


@given(
    ratio=st.floats(0.1, 50), inserts=st.integers(0, 10**9), samples=st.integers(0, 10**12),
    size=st.integers(0, 10**6), block=st.integers(1, 64), batch=st.integers(16, 500), min_size=st.integers(1, 500),
)  # fmt: skip
def test_a_restored_limiter_never_blocks_both_sides(
    ratio: float, inserts: int, samples: int, size: int, block: int, batch: int, min_size: int
) -> None:
    """Whatever was saved: alternating writers and learners get on for ever."""

    async def get_on() -> None:
        inserted = sampled = 0
        for _ in range(60 + min_size // block + int(4 * block * ratio / batch) + int(4 * batch / (block * ratio))):
            can_insert, can_sample = await passes(limiter.insert, block), await passes(limiter.sample, batch)
            assert can_insert or can_sample
            inserted, sampled = inserted + can_insert, sampled + can_sample
        assert inserted and sampled

    limiter = RateLimiter(ratio, tolerance=(block * ratio + batch) / 2 + 1, min_size=min_size)
    limiter.load({"inserts": inserts, "samples": samples}, size)
    asyncio.run(get_on())


def test_a_lost_replay_does_not_block_a_restored_limiter() -> None:
    limiter = RateLimiter(8.0, tolerance=100.0, min_size=50)
    limiter.load({"inserts": 10_000, "samples": 0}, size=0)
    assert all(allowed(limiter.insert, 10) for _ in range(5))
    assert allowed(limiter.sample, 64)


def test_changing_the_ratio_starts_balanced() -> None:
    limiter = RateLimiter(1.0, tolerance=20.0)
    for _ in range(10):
        now(limiter.insert, 1, 0.1)
    limiter.set_ratio(100.0, 200.0)
    assert limiter.stats()["ahead"] == 0
    assert allowed(limiter.sample, 200) and not allowed(limiter.sample, 1) and allowed(limiter.insert, 2)


def test_wrong_settings() -> None:
    for wrong in ((-1.0, 1.0, 1), (1.0, -1.0, 1), (1.0, 1.0, 0)):
        with pytest.raises(ValueError, match="must be at least"):
            RateLimiter(*wrong)


def test_inserts_that_were_never_made_are_uncounted_and_make_room() -> None:
    limiter = RateLimiter(samples_per_insert=1.0, tolerance=10.0, min_size=5)
    assert allowed(limiter.insert, 5) and allowed(limiter.insert, 10) and not allowed(limiter.insert, 1)
    limiter.give_back_inserts(12)
    assert limiter.state() == {"inserts": 3, "samples": 0}
    assert not allowed(limiter.sample, 1), "replay is filling again"
    assert allowed(limiter.insert, 5) and allowed(limiter.sample, 1)


def test_whoever_leaves_the_queue_lets_those_behind_it_pass() -> None:
    limiter = RateLimiter(samples_per_insert=1.0, tolerance=10.0, min_size=5)

    async def leave() -> list[int]:
        await limiter.insert(5, 1)
        waiting = [asyncio.create_task(limiter.insert(n, 60, who=who)) for n, who in ((12, "gone"), (2, "other"))]
        await asyncio.sleep(0.01)
        limiter.leave("gone")
        return [await one for one in waiting]

    assert asyncio.run(leave()) == [0, 1]
    assert limiter.state()["inserts"] == 7
