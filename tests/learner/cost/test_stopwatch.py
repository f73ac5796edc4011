"""The time of stages."""

import torch

from learner.cost.cpu import now
from learner.cost.stopwatch import Stopwatch
from world_models.stages import begin


def work(seconds: float) -> None:
    begun = now()
    while now() - begun < seconds:
        pass


def test_stages_are_timed_one_after_the_other() -> None:
    def run() -> None:
        begin("first")
        work(0.02)
        begin("second")
        work(0.04)
        begin("first")
        work(0.01)

    begun = now()
    found = Stopwatch(torch.device("cpu")).time(run)
    whole = now() - begun
    assert {*found} == {"prepare", "first", "second"}
    assert found["first"] >= 0.03 and found["second"] >= 0.04
    assert sum(found.values()) <= whole
