"""Shares of the time that a learner's loop spends on what is no update."""

import time

from deploy.distributed.learner_group.time_shares import PARTS, TimeShares


def test_parts_are_shares_of_the_time_since_they_were_last_taken() -> None:
    shares = TimeShares()
    with shares.on("batch"):
        time.sleep(0.2)
    with shares.on("batch"), shares.on("latents"):
        time.sleep(0.1)
    found = shares.take()
    assert found.keys() == {f"time/{part}" for part in PARTS}
    assert 0.5 < found["time/batch"] <= 1 and 0 < found["time/latents"] < 0.6 * found["time/batch"]
    assert found["time/turn"] == 0.0
    time.sleep(0.01)
    assert set(shares.take().values()) == {0.0}
