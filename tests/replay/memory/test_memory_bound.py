"""What a store in memory says it takes at most is what the process really takes."""

import json
import subprocess
import sys

import pytest

FILL = """
import json, sys
import numpy as np, psutil
from replay.memory.memory_store import MemoryStore
from replay.step import Field, Schema

bound = json.loads(sys.argv[1])
schema = Schema(
    fields={"image": Field(dtype=np.dtype(np.uint8), shape=(64, 64, 3)), "reward": Field(dtype=np.dtype(np.float32))},
    latents={"deter": Field(dtype=np.dtype(np.float16), shape=(2048,))},
)
rows = {key: np.ones((64, *field.shape), field.dtype) for key, field in schema.all.items()}
store = MemoryStore(schema, length=65, streams=8, **bound)
store.append(0, 0, rows)
process = psutil.Process()
before = process.memory_info().rss - store.stats()["gb"] * 1e9
for first in range(64, 64 * 90, 64):
    for stream in range(8):
        store.append(stream, first if stream == 0 else first - 64, rows)
assert store.stats()["evicted"] > 10_000
print(json.dumps({"taken": process.memory_info().rss - before, "planned": store.max_gb * 1e9}))
"""


@pytest.mark.parametrize("bound", [{"capacity": 20_000}, {"capacity_gb": 0.35}])
def test_a_full_store_takes_what_was_planned(bound: dict[str, float]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, json.dumps(bound)], capture_output=True, text=True, timeout=500, check=True
    )
    measured = json.loads(done.stdout)
    assert 0.9 * measured["planned"] < measured["taken"] < 1.02 * measured["planned"], measured
    if "capacity_gb" in bound:
        assert measured["planned"] <= bound["capacity_gb"] * 1e9
