"""The learner's benchmark in two checkouts at once: their updates alternate, so that both see the same busy machine."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.machine import median

# Run with a checkout as its working directory, and with what every version of `tests.benchmarks.learner` has.
WORKER = """
import sys
from dataclasses import replace
import torch
from deploy.wiring.config import RunConfig
from deploy.wiring.presets import apply
from tests.benchmarks.learner import Bench
from tests.benchmarks.machine import seconds
preset, size, device, precision, threads, *more = sys.argv[1:]
torch.set_num_threads(int(threads))
config = apply(RunConfig(task="dmc_walker_walk"), preset, size)
options = {"device": device, "precision": precision} | dict.fromkeys(more, True)
bench = Bench(replace(config, learner=replace(config.learner, **options)))
bench.update()
print("ready", flush=True)
for _ in sys.stdin:
    print(*seconds(bench.update, bench.device), flush=True)
"""


class _Worker:
    def __init__(self, checkout: Path, arguments: list[str]):
        self.checkout = checkout
        command = [sys.executable, "-c", WORKER, *arguments]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=checkout, stdin=pipe, stdout=pipe, text=True)
        self._read()

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise ValueError(f"the update in {self.checkout} failed, see above; --against takes a checkout of nexus.")
        return line

    def update(self) -> tuple[float, float]:
        """CPU and wall seconds of one update."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        cpu, wall = map(float, self._read().split())
        return cpu, wall

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def compare(
    ours: Path, theirs: Path, arguments: list[str], rounds: int, cuda: bool, more: Sequence[str] = ()
) -> dict[str, object]:  # fmt: skip
    """Medians of `rounds` updates of each checkout, and the ratio ours / theirs of each round: CPU seconds, on CUDA
    wall seconds. `arguments` are those of `WORKER`; `more` are options of the learner that are on in ours. Raises
    ValueError if `theirs` has no such benchmark."""
    if not (theirs / "tests/benchmarks/learner.py").is_file():
        raise ValueError(f"--against {theirs} has no tests/benchmarks/learner.py; give a checkout of nexus.")
    workers: list[_Worker] = []
    try:
        workers.extend(_Worker(*one) for one in ((ours.resolve(), [*arguments, *more]), (theirs.resolve(), arguments)))
        taken = [[worker.update()[cuda] for worker in workers] for _ in range(rounds)]
    finally:
        for worker in workers:
            worker.close()
    ratios = sorted(mine / other for mine, other in taken)
    mine, other = (median(list(column)) for column in zip(*taken, strict=True))
    return {
        "ours": mine, "theirs": other, "ratio": median(ratios), "range": [ratios[0], ratios[-1]], "rounds": rounds,
        "unit": f"{'' if cuda else 'CPU '}s/update", "against": theirs.name,
    }  # fmt: skip
