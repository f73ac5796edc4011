"""Times the stages of updates."""

from collections import defaultdict
from collections.abc import Callable

import torch

from learner.cost.counting import BEFORE
from learner.cost.cpu import now
from world_models.stages import watched


class Stopwatch:
    """On CUDA by events on the stream, which wait for nothing; on a CPU by `learner.cost.cpu.now`."""

    def __init__(self, device: torch.device):
        self.device = device

    def time(self, run: Callable[[], object]) -> dict[str, float]:
        """Seconds of `run` in each of its stages."""
        marks = [(BEFORE, self._mark())]
        with watched(lambda stage: marks.append((stage, self._mark()))):
            run()
        marks.append(("", self._mark()))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds: defaultdict[str, float] = defaultdict(float)
        for (stage, begun), (_, ended) in zip(marks[:-1], marks[1:], strict=True):
            seconds[stage] += self._between(begun, ended)
        return dict(seconds)

    def _mark(self) -> "torch.cuda.Event | float":
        if self.device.type != "cuda":
            return now()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, begun: "torch.cuda.Event | float", ended: "torch.cuda.Event | float") -> float:
        if isinstance(begun, float) and isinstance(ended, float):
            return ended - begun
        assert not isinstance(begun, float) and not isinstance(ended, float), (begun, ended)
        return begun.elapsed_time(ended) / 1e3
