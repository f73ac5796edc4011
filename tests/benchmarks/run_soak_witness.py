"""Looks at every batch that a run's learner draws, in the learner's own process.

The soak puts a `sitecustomize.py` that calls `install` in front of the run's path. The store is the run's own; its
batches are read, not changed.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

WHERE = "RUN_SOAK_WITNESS"
"""The environment variable that names the folder of the accounts."""
_TOLD = 5  # torn sequences that are described, of each batch


def hook(folder: Path) -> dict[str, str]:
    """Write the hook and give the variables with which every Python process of a run takes it up."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(f"import {__name__} as witness\n\nwitness.install()\n")
    root = Path(__file__).parents[2]
    return {WHERE: str(folder), "PYTHONPATH": f"{folder}{os.pathsep}{root}"}


def install() -> None:
    """Watch the store, where this process is one that learns."""
    words = " ".join(sys.orig_argv)
    if WHERE not in os.environ or "deploy.learner_process" not in words and "deploy.cli train" not in words:
        return
    from replay.layout import Batch, views
    from replay.sharding import ShardedStore
    from tests.benchmarks.run_soak_world import judge

    account = open(Path(os.environ[WHERE]) / f"sampled-{os.getpid()}.jsonl", "ab", buffering=0)  # noqa: SIM115
    draw = ShardedStore.sample_into

    def sample_into(self: ShardedStore, out: Batch, rng: Any, *more: Any, **settings: Any) -> None:
        draw(self, out, rng, *more, **settings)
        rows, torn = views(out.rows), []
        for k in range(len(out.rows)):
            found = judge({key: value[k] for key, value in rows.items()}).torn
            steps = out.keys[k]
            if (steps[:, 0] != steps[0, 0]).any() or (np.diff(steps[:, 1]) != 1).any():
                found.append(f"keys {steps.tolist()} are not consecutive steps of one stream")
            torn += [f"stream {steps[0, 0]}, step {steps[0, 1]}: {line}" for line in found]
        line = {"sequences": len(out.rows), "torn": len(torn), "told": torn[:_TOLD]}
        account.write(json.dumps(line).encode() + b"\n")

    ShardedStore.sample_into = sample_into  # type: ignore[method-assign]


class Sampled(NamedTuple):
    """What the learners of a run have drawn so far."""

    sequences: int
    torn: int
    told: list[str]


def accounts(folder: Path) -> Sampled:
    """Of all lives; a line that a kill cut off counts for nothing."""
    sequences = torn = 0
    told: list[str] = []
    for path in sorted(folder.glob("sampled-*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            one = json.loads(line)
            sequences, torn = sequences + one["sequences"], torn + one["torn"]
            told += one["told"]
    return Sampled(sequences, torn, told[:_TOLD])
