"""Starting `nexus train` with networks small enough for tests, and reading what it left."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from deploy.commands.train import parse_train
from deploy.inline_run import InlineRun
from deploy.reports.metrics import WALL_CLOCK_KEYS
from deploy.wiring.claim import _LOCKS
from deploy.wiring.config import load_config
from deploy.wiring.stores import shard as make_shard
from deploy.wiring.task import replay_schema
from replay.memory.memory_store import MemoryStore
from replay.step import Rows
from tests.integration.forked import Forked
from world_models.model_document import read_model_document

TINY = [
    "--preset", "quick",
    "--model.rssm.deter", "16", "--model.rssm.hidden", "8", "--model.rssm.stoch", "4", "--model.rssm.classes", "4",
    "--model.encoder.units", "8", "--model.encoder.depth", "2", "--model.decoder.units", "8",
    "--model.decoder.depth", "2", "--model.reward.units", "8", "--model.continuation.units", "8",
    "--model.policy.units", "8", "--model.value.units", "8", "--model.reward.bins", "15", "--model.value.bins", "15",
    "--model.imagination-length", "3", "--learner.batch-size", "4", "--learner.batch-length", "8",
    "--learner.threads", "1", "--learner.device", "cpu", "--actor.environments", "4", "--actor.random-steps", "40",
    "--evaluation.every", "0",
]  # fmt: skip

MY_MODULE = """
import gymnasium as gym, numpy as np
from gymnasium import spaces
from deploy.commands.train import parse_train
from deploy.inline_run import InlineRun
from deploy.wiring.claim import _LOCKS

class MyEnv(gym.Env):
    observation_space = spaces.Dict(
        image=spaces.Box(0, 255, (32, 32, 3), np.uint8), vector=spaces.Box(-1, 1, (3,), np.float32))
    action_space = spaces.Dict(button=spaces.Discrete(3), stick=spaces.Box(-1, 1, (2,), np.float32))
    def observe(self):
        return {"image": np.full((32, 32, 3), int(127 + 127 * self.x[0]), np.uint8), "vector": self.x}
    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t = self.np_random.uniform(-1, 1, 3).astype(np.float32), 0
        return self.observe(), {}
    def step(self, action):
        push = 0.1 * np.append(action["stick"], action["button"] - 1)
        self.x, self.t = np.clip(self.x + push, -1, 1).astype(np.float32), self.t + 1
        return self.observe(), float(-np.abs(self.x).sum()), False, self.t >= 20, {}

gym.register("MyEnv-v0", MyEnv)
"""


NEXUS = [sys.executable, "-m", "deploy.cli"]


def command(task: str, logdir: Path, *arguments: str) -> list[str]:
    return [*NEXUS, "train", task, *TINY, "--logdir", str(logdir), *arguments]


def environment() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1")


def start(directory: Path, arguments: Sequence[str]) -> subprocess.Popen[str] | Forked:
    """Start a command in its own session, its output in `output.log`."""
    if not _needs_torch(arguments):
        return execute(directory, arguments)
    with (directory / "output.log").open("a") as log:
        return Forked(arguments[3:], directory, environment(), log, log)


def execute(directory: Path, arguments: Sequence[str]) -> subprocess.Popen[str]:
    """The same, never forked: it has the environment of now for all to see."""
    with (directory / "output.log").open("a") as log:
        return subprocess.Popen(
            arguments, cwd=directory, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip


def _needs_torch(arguments: Sequence[str]) -> bool:
    """Whether this is a command that imports PyTorch in its own process. The driver of local mode does not."""
    return list(arguments[:3]) == NEXUS and (arguments[3] != "train" or "inline" in arguments)


def run(directory: Path, arguments: Sequence[str], timeout: float = 500) -> subprocess.CompletedProcess[str]:
    if _needs_torch(arguments):
        with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
            with Forked(arguments[3:], directory, environment(), out, err) as process:
                code = process.wait(timeout)
            out.seek(0), err.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read(), err.read())
    return subprocess.run(
        arguments, cwd=directory, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=timeout,
    )  # fmt: skip


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 300) -> Any:
    """The first true value of `condition()`."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise TimeoutError(f"waited {timeout:g} s for {what}")


def checkpoints(logdir: Path) -> list[int]:
    return sorted(int(path.name) for path in (logdir / "checkpoints").glob("[0-9]*") if path.name.isdigit())


def lines(path: Path) -> list[dict[str, Any]]:
    """Log lines without their wall-clock keys."""
    if not path.exists():
        return []
    parsed = [json.loads(line) for line in path.read_text().splitlines() if line]
    return [{k: v for k, v in line.items() if not k.startswith(WALL_CLOCK_KEYS)} for line in parsed]


def state_of(logdir: Path, number: int) -> dict[str, Any]:
    """All that a checkpoint holds: arrays, counters, replay row by row."""
    folder = logdir / "checkpoints" / f"{number:010d}"
    state: dict[str, Any] = {}
    for path in folder.glob("*.safetensors"):
        state |= {f"{path.stem}/{key}": value for key, value in load_file(path).items()}
    document = json.loads((folder / "state.json").read_text())
    document.get("board", {}).get("metrics", {}).pop("files", None)  # file sizes hold wall-clock numbers
    state["state"] = document
    return state | {f"replay/{key}": value for key, value in replay_of(logdir, folder).items()}


def replay_of(logdir: Path, folder: Path) -> Rows:
    """Every row of every stream of a checkpoint's replay, latents included."""
    config = load_config(logdir)
    document = read_model_document(folder)
    schema = replay_schema(document.observation, document.action, config.model)
    out: Rows = {}
    for shard in sorted((folder / "replay").iterdir()):
        store = make_shard(shard.name, schema, config, print)
        store.restore(shard)
        assert isinstance(store, MemoryStore), "replay in a checkpoint is a snapshot of memory"
        out[f"{shard.name}/items"] = store.items()
        for stream, steps in sorted(store.streams().items()):
            rows = store.read(stream, steps.start, len(steps))
            out |= {f"{shard.name}/{stream}/{key}": value for key, value in rows.items()}
    return out


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Keys in which two states differ, bit for bit."""
    bad = sorted(a.keys() ^ b.keys())
    for key in a.keys() & b.keys():
        same = np.array_equal(a[key], b[key]) if isinstance(a[key], np.ndarray) else a[key] == b[key]
        if not same:
            bad.append(key)
    return bad


def train_inline(logdir: Path, *words: str) -> InlineRun:
    """Train in this process until the run is done; its directory is then free again."""
    whole = InlineRun(parse_train([*words, "--logdir", str(logdir)]), logdir)
    try:
        assert whole.run() == "done"
    finally:
        _LOCKS.pop(logdir).close()
    return whole
