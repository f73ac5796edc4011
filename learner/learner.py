"""The learner: sample, update, write latents back. It depends on a store and an update, not on Ray or Redis."""

import json
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from learner.batch import to_device
from learner.config import LearnerConfig
from learner.dreamer_step import DreamerStep
from learner.processes import Processes
from learner.sequence import CONTEXT, sample_length, start_items
from learner.to_host import ToHost
from learner.write_back import WriteBack
from replay.consecutive import consecutive
from replay.errors import NexusError
from replay.step import Rows
from replay.store import Sample, Store
from world_models.dreamer.acting import Carry
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.anchor import Anchor
from world_models.dreamer.disagreement import Disagreement
from world_models.dreamer.rssm import State
from world_models.parameters import as_arrays, load_parameters
from world_models.stages import begin

AHEAD = 2
"""Updates that the host may be ahead of a GPU: enough to keep it busy, few enough to keep their batches."""
_SUM, _PRIORITY = "sum", "priority"


class NonFiniteError(NexusError):
    """A loss or gradient was not finite; the batch and a report were saved."""


class _Result(NamedTuple):
    """What an update left, on its way to the host."""

    update: int
    rows: Rows
    keys: np.ndarray
    metrics: dict[str, Tensor]
    copied: ToHost


class Learner:
    """Updates `agent` on batches from `store`. `source(number)` replaces plain sampling, e.g. by a prefetcher.

    With `prioritize`, the model loss of each trained step becomes its priority in the store. An ensemble for
    `exploration` is trained with the agent, and belongs to the training state. So does an `anchor`.

    Of several `processes`, which make every update together, each has a learner of its own with the same agent, and
    samples and writes back its rows of the batch. If what the store holds, in which order and with which priorities,
    never changes (`still`), the batch is the one that a process alone would sample without fresh sequences.

    On CUDA the host runs ahead: what an update found is looked at, and written back, `AHEAD` updates later.
    """

    def __init__(
        self,
        agent: Dreamer,
        config: LearnerConfig,
        store: Store,
        *,
        seed: int,
        faults: Path,
        source: Callable[[int], Sample] | None = None,
        prioritize: bool = False,
        exploration: Disagreement | None = None,
        anchor: Anchor | None = None,
        processes: Processes | None = None,
        still: bool = False,
    ):
        self.processes, self.still = processes or Processes(), still
        self.step = DreamerStep(agent, config, seed, exploration, anchor, self.processes)
        self.agent, self.config, self.store, self.seed, self.faults = agent, config, store, seed, faults
        self.source = source or self.sample
        self.prioritize = prioritize
        self.largest_reward = 0.0
        """The largest absolute one in all batches."""
        self._waiting: deque[tuple[Rows, np.ndarray]] = deque()
        self.write_back = WriteBack(store)
        self._results: deque[_Result] = deque()
        self._ahead = AHEAD if self.step.device.type == "cuda" else 0

    @property
    def updates(self) -> int:
        return self.step.updates

    @property
    def replayed(self) -> int:
        """Training steps seen so far."""
        return self.updates * self.replayed_per_update

    @property
    def replayed_per_update(self) -> int:
        """Training steps of one batch."""
        return self.config.batch_size * self.config.batch_length

    @property
    def within_sequence(self) -> bool:
        """Batches of a sequence are still to come; else `state` asks nothing of other processes."""
        return bool(self._waiting)

    def ready(self) -> bool:
        """Whether replay holds enough to start."""
        return len(self.store) >= start_items(self.config)

    def sample(self, number: int) -> Sample:
        """Batch `number` of the run, or this process's rows of it: its sequences depend only on the replay content, the
        run's seed and `number`."""
        size, length, own = self.config.batch_size, sample_length(self.config), self.processes
        if own.size == 1:
            return self.store.sample(size, length, np.random.default_rng([self.seed, 1, number]))
        if self.still:  # fresh sequences come only once, so not to all processes
            rng, rows = np.random.default_rng([self.seed, 1, number]), own.rows(size)
            batch, keys = self.store.sample(size, length, rng, online=False)
            return {key: value[rows] for key, value in batch.items()}, keys[rows]
        # Of a store that is written to, no two calls have the same content.
        rng = np.random.default_rng([self.seed, 1, number, own.rank])
        return self.store.sample(size // own.size, length, rng)

    def update(self) -> dict[str, Tensor]:
        """One update; the metrics stay on the device. NonFiniteError: this update or, on CUDA, one of the `AHEAD`
        before it was not finite; a report is in `faults`."""
        begin("data")
        if not self._waiting:
            self._fetch()
        rows, keys = self._waiting.popleft()
        agent, device = self.agent, self.step.device
        batch = to_device(rows, agent.observation_space, agent.action_space, agent.config.rssm.classes, device)
        result = self.step(batch)
        begin("write back")
        found = {"deter": result.latents["deter"].half(), "stoch": result.latents["stoch"].to(torch.int8)}
        found[_SUM] = result.metrics["loss/total"] + result.metrics["optimizer/grad_norm"]
        if self.prioritize:
            found[_PRIORITY] = agent.model_loss(result.output.losses).detach().float()
        self._results.append(_Result(self.updates, rows, keys, result.metrics, ToHost(found)))
        self.settle(self._ahead)
        return result.metrics

    def settle(self, ahead: int = 0) -> None:
        """Look at the results of all updates but the last `ahead`, and write their latents back. NonFiniteError: one
        was not finite."""
        while len(self._results) > ahead:
            result = self._results.popleft()
            found = result.copied.arrays()
            if not np.isfinite(found.pop(_SUM)):
                self._report(result)
            priority = found.pop(_PRIORITY, None)
            self.write_back(result.keys, found, priority)

    def _fetch(self) -> None:
        """Queue the batches cut from one replayed batch; each has the keys of its training columns."""
        batch, keys = self.source(self.updates // self.config.consecutive)
        largest = self.processes.largest(float(np.abs(batch["reward"]).max()))
        self.largest_reward = max(self.largest_reward, largest)
        latents = {key: batch.pop(key) for key in self.store.schema.latents}
        c = self.config
        for part in consecutive([batch], c.batch_length, c.consecutive, CONTEXT):
            first = int(part["consec"][0, 0]) * c.batch_length + CONTEXT
            self._waiting.append((part | latents, keys[:, first : first + c.batch_length]))

    def _report(self, result: _Result) -> None:
        update, rows, keys, metrics, _ = result
        folder = self.faults / f"nonfinite-{update:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        name = "batch.safetensors" if self.processes.first else f"batch-{self.processes.rank}.safetensors"
        save_file({k: np.ascontiguousarray(v) for k, v in (rows | {"keys": keys}).items()}, folder / name)
        numbers = {key: float(value) for key, value in metrics.items()}
        bad = sorted(key for key, value in numbers.items() if not np.isfinite(value))
        report = {
            "update": update,
            "time": time.time(),
            "not_finite": bad,
            "metrics": {k: repr(v) for k, v in numbers.items()},
        }
        if self.processes.first:
            (folder / "report.json").write_text(json.dumps(report, indent=2))
        raise NonFiniteError(
            f"Update {update} produced non-finite {', '.join(bad)}. The batch and a report are in {folder}; the "
            "last checkpoint is untouched. Check the batch for NaN or huge observations and rewards, or lower the "
            "learning rate."
        )

    def state(self) -> Rows:
        """Training state besides the model: optimiser, ensemble, anchor, update count and, within a sequence, the parts
        still queued and the state carried into them, of all rows. All processes call it together. NonFiniteError: an
        update was not finite."""
        self.settle()
        self.write_back.settle()
        whole = self.processes.gather_array
        out = {f"optimizer.{key}": value.cpu().numpy() for key, value in self.step.optimizer.state_dict().items()}
        out |= {"updates": np.array(self.updates), "largest_reward": np.array(self.largest_reward)}
        for name, module in self._beside.items():
            out |= {f"{name}.{key}": value for key, value in as_arrays(module).items()}
        for i, (rows, keys) in enumerate(self._waiting):
            out |= {f"waiting.{i}.{key}": whole(value) for key, value in (rows | {"keys": keys}).items()}
        if self._waiting and self.step.carry:
            state, action = self.step.carry
            carry = {key: value.float() for key, value in state._asdict().items()}  # numpy has no bfloat16
            carry |= {f"action.{key}": value for key, value in action.items()}
            out |= {f"carry.{key}": whole(value.cpu().numpy()) for key, value in carry.items()}
        return out

    @property
    def _beside(self) -> dict[str, nn.Module]:
        """What is trained with, or remembered of, the agent."""
        modules = {"exploration": self.step.exploration, "anchor": self.step.anchor}
        return {name: module for name, module in modules.items() if module is not None}

    def load(self, state: Rows) -> None:
        """Continue from `state`, which any number of processes may have saved; the model is loaded separately."""
        part = self.processes.rows(self.config.batch_size)
        step, device = self.step, self.step.device
        step.optimizer.load_state_dict({k: torch.tensor(v) for k, v in _below("optimizer.", state).items()})
        for name, module in self._beside.items():
            load_parameters(module, _below(f"{name}.", state), f"The {name} of the training state")
        step.updates = int(state["updates"])
        self.largest_reward = float(state.get("largest_reward", 0.0))  # earlier versions do not have it
        self._waiting.clear()
        self._results.clear()
        while rows := _below(f"waiting.{len(self._waiting)}.", state):
            mine = {key: value[part] for key, value in rows.items()}
            self._waiting.append((mine, mine.pop("keys")))
        step.carry = None
        if carry := {key: torch.tensor(value[part], device=device) for key, value in _below("carry.", state).items()}:
            action = {key: carry[f"action.{key}"] for key in self.agent.action_space}
            step.carry = Carry(State(carry["deter"], carry["stoch"]), action)

    def align(self) -> None:
        """Begin with the parameters and moments of the first process in all of them."""
        modules = [self.agent, *self._beside.values()]
        tensors = [tensor for module in modules for tensor in module.state_dict().values()]
        self.processes.align([*tensors, *self.step.optimizer.state_dict().values()])


def _below(prefix: str, state: Rows) -> Rows:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
