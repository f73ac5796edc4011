"""Looks at every batch that a run's learner draws, in the learner's own process.

The soak puts a `sitecustomize.py` that calls `install` in front of the run's path. The store is the run's own; its
batches are read, not changed.
"""

import importlib.util
import json
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

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
    """Watch the store, where this process is one that learns. Nothing is imported before the process does so itself."""
    words = " ".join(sys.orig_argv)
    if WHERE in os.environ and ("deploy.distributed.learner_process" in words or "deploy.cli train" in words):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds `replay.sharding` once, as everybody else would."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != "replay.sharding":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec and spec.loader
        load = spec.loader.exec_module

        def watched(module: ModuleType) -> None:
            load(module)
            _watch(module.ShardedStore)

        spec.loader.exec_module = watched  # type: ignore[method-assign]
        return spec


def _watch(store: Any) -> None:
    account = open(Path(os.environ[WHERE]) / f"sampled-{os.getpid()}.jsonl", "ab", buffering=0)  # noqa: SIM115
    draw = store.sample_into

    def sample_into(self: Any, out: Any, rng: Any, *more: Any, **settings: Any) -> None:
        from replay.layout import views
        from tests.benchmarks.run_soak_judge import judge

        draw(self, out, rng, *more, **settings)
        rows, torn = views(out.rows), []
        for k in range(len(out.rows)):
            found = judge({key: value[k] for key, value in rows.items()}).torn
            steps = out.keys[k].tolist()
            if [[steps[0][0], steps[0][1] + t] for t in range(len(steps))] != steps:
                found.append(f"keys {steps} are not consecutive steps of one stream")
            torn += [f"stream {steps[0][0]}, step {steps[0][1]}: {line}" for line in found]
        line = {"sequences": len(out.rows), "torn": len(torn), "told": torn[:_TOLD]}
        account.write(json.dumps(line).encode() + b"\n")

    store.sample_into = sample_into


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
