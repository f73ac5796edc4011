"""One DreamerV3 update: a function of parameters, batch and draws, with static shapes and no host synchronisation."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from learner.batch import DeviceBatch
from learner.config import LearnerConfig
from learner.joined import accumulate, join_metrics, metrics_of, without_gradients
from learner.optimizer import LaProp
from learner.processes import Processes
from learner.recording import Recorded
from world_models.dreamer.acting import Carry
from world_models.dreamer.agent import Dreamer, Output
from world_models.dreamer.anchor import Anchor
from world_models.dreamer.disagreement import Disagreement
from world_models.dreamer.draws import Draws, draw_update, mix_seed
from world_models.dreamer.kernels.choice import fused_walk
from world_models.dreamer.kernels.imagined_step import CompiledSteps, NotCompiledError
from world_models.dreamer.official_names import is_kernel, trainable
from world_models.dreamer.rssm import State
from world_models.joining import Join
from world_models.stages import begin

M = TypeVar("M", bound=nn.Module)


class Update(NamedTuple):
    """Result of one update."""

    metrics: dict[str, Tensor]
    latents: dict[str, Tensor]
    """Refreshed latents of the T training columns for replay: `deter [B T D]`, `stoch [B T S]` class indices."""
    carry: Carry
    """Final state and action, for a batch that continues this one."""
    output: Output
    """Without gradients and `values` if the batch passed in parts or the update was replayed."""


def choose_device(config: LearnerConfig, processes: Processes | None = None) -> torch.device:
    """The configured device; `auto` is CUDA if available. Each of several processes has a GPU of its own. ValueError:
    CUDA is asked for and missing, or has fewer devices than there are processes."""
    if config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(f"learner.device={config.device!r}, but torch sees no CUDA device; use cpu or auto.")
    if processes is None or processes.size == 1:
        return torch.device("cuda" if config.device == "auto" else config.device)
    if (there := torch.cuda.device_count()) < processes.size:
        raise ValueError(
            f"learner.processes={processes.size}, but torch sees {there} CUDA devices, and each process needs one of "
            f"its own. Set learner.processes to at most {there}, or learner.device to cpu."
        )
    return torch.device("cuda", processes.local_rank)


class DreamerStep:
    """Losses, gradients, LaProp and the slow value, in that order. `seed` and the update number fix the draws; an
    ensemble for `exploration` and an `anchor` need none.

    Each of several `processes` is given its rows of the batch. Parameters and metrics are those of the whole batch in
    all of them, whatever their number, and into however many parts `config.accumulate` divides their rows.

    On CUDA a process alone records its update as a CUDA graph (`config.cuda_graph`) and replays it: what one call
    returned is then overwritten by the next, metrics excepted. With `config.fused_scan` it filters sequences with two
    Triton kernels. ValueError: those cannot be used. On a CPU `config.compile` makes C++ of imagined steps if it can.
    `remarks` says which it is.

    It needs no more of Nexus: README.md has a loop of 15 lines around it, and `learner.batch.batch_of` makes batches of
    plain tensors. `state_dict()` of `agent` and of `optimizer`, `updates` and `carry` are all that it keeps.
    """

    def __init__(
        self, agent: Dreamer, config: LearnerConfig, seed: int = 0, exploration: Disagreement | None = None,
        anchor: Anchor | None = None, processes: Processes | None = None,
    ):  # fmt: skip
        self.processes = processes or Processes()
        self.device = choose_device(config, self.processes)
        if self.device.type == "cuda" and self.processes.size > 1:
            torch.cuda.set_device(self.device)
        self.agent = _placed(agent, self.device)
        self.exploration = _placed(exploration, self.device) if exploration is not None else None
        self.anchor = _placed(anchor, self.device) if anchor is not None else None
        self.config, self.seed = config, seed
        ensemble = exploration.named_parameters("exploration") if exploration is not None else ()
        self.optimizer = LaProp([*trainable(agent), *ensemble], config.optimizer, is_kernel)
        self.updates = 0
        self.carry: Carry | None = None
        self.generator = torch.Generator(self.device)
        records = config.cuda_graph and self.device.type == "cuda" and self.processes.size == 1
        self.recorded = Recorded(self._replayable) if records else None
        self._names: list[str] = []
        bfloat16 = {"auto": self.device.type == "cuda", "bfloat16": True, "float32": False}[config.precision]
        self.autocast_dtype = torch.bfloat16 if bfloat16 else None
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = config.tf32
            torch.backends.cudnn.allow_tf32 = config.tf32
        agent.rssm.compiled_steps = None
        self.compiling = self._compile() if config.compile else ""
        """How it went with `config.compile`, as a line for a log."""
        walk = None
        if config.fused_scan and self.device.type == "cuda":
            with self._autocast():
                walk = fused_walk(agent.rssm, config.batch_size // (self.processes.size * config.accumulate))
        agent.rssm.walk = walk
        if anchor is not None:
            anchor.rssm.walk = walk

    def _compile(self) -> str:
        config, take = self.config, self.agent.config.imagination_last or self.config.batch_length
        rows = config.batch_size // (self.processes.size * config.accumulate) * min(take, config.batch_length)
        try:
            if self.device.type != "cpu" or self.autocast_dtype:
                raise NotCompiledError("that is for float32 on a CPU")
            self.agent.rssm.compiled_steps = steps = CompiledSteps(self.agent.rssm, rows)
        except NotCompiledError as error:
            return f"Imagined steps are not compiled: {error}. Set learner.compile to False to be rid of this line."
        return f"Imagined steps are compiled; that took {steps.seconds:.1f} s."

    @property
    def remarks(self) -> list[str]:
        """Lines for a log: what is done in another way than operator by operator, or could be."""
        return [line for line in (self.compiling, self.filtering) if line]

    @property
    def filtering(self) -> str:
        """How a GPU takes the steps of a sequence, as a line for a log; empty on a CPU."""
        if self.device.type != "cuda":
            return ""
        if self.agent.rssm.walk is None:
            return "Sequences are filtered operator by operator; --learner.fused-scan True does it with two kernels."
        return "Sequences are filtered by one Triton kernel forward and one backward."

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, self.autocast_dtype) if self.autocast_dtype else nullcontext()

    def draws(self, rows: int, time: int) -> Draws:
        """The randomness of the coming update for this process's rows; the same for the same seed and update number,
        and that of its rows in the whole batch."""
        c, processes = self.agent.config, self.processes
        take, whole = min(c.imagination_last or time, time), rows * processes.size
        self.generator.manual_seed(mix_seed(self.seed, self.updates))
        drawn = draw_update(
            self.agent.action_space, whole, time, c.rssm.stoch, whole * take, c.imagination_length, self.generator
        )
        return drawn.part(processes.rank, processes.size)

    def __call__(self, batch: DeviceBatch, draws: Draws | None = None) -> Update:
        begin("prepare")
        batch = self._continued(batch)
        draws = draws or self.draws(*batch.steps["is_first"].shape)
        if self.anchor is not None and self.anchor.due(self.updates):
            self.anchor.renew(self.agent.encoder, self.agent.rssm)
        if self.recorded is None:
            output, metrics = self._update((batch, draws))
        else:
            output, packed = self.recorded((batch, draws))
            metrics = dict(zip(self._names, packed.clone().unbind(), strict=True))
        self.updates += 1
        sequence = output.sequence
        deter, stoch = sequence.deter.detach(), sequence.stoch.detach()
        self.carry = Carry(State(deter[:, -1], stoch[:, -1]), batch.last_action)
        return Update(metrics, {"deter": deter, "stoch": sequence.indices}, self.carry, output)

    def _update(self, inputs: tuple[DeviceBatch, Draws]) -> tuple[Output, dict[str, Tensor]]:
        """All that runs on the device, with static shapes and without waiting for it."""
        self.optimizer.zero_grad()
        output, metrics = self._differentiate(*inputs)
        begin("optimize")
        self.processes.average([p.grad for p in self.optimizer.params if p.grad is not None])
        metrics |= {f"optimizer/{key}": value for key, value in self.optimizer.step().items()}
        self.agent.update_slow()
        return output, metrics

    def _replayable(self, inputs: tuple[DeviceBatch, Draws]) -> tuple[Output, Tensor]:
        """An update whose metrics are one tensor, which one kernel copies, and which keeps no gradients."""
        output, metrics = self._update(inputs)
        self._names = list(metrics)
        return without_gradients(output), torch.stack([value.float() for value in metrics.values()])

    def _differentiate(self, batch: DeviceBatch, draws: Draws) -> tuple[Output, dict[str, Tensor]]:
        """Losses and gradients of this process's rows, and the metrics of the whole batch."""
        agent, parts, gather = self.agent, self.config.accumulate, self.processes.gather
        if parts > 1:
            output, each = accumulate(agent, self.exploration, self._loss, batch, draws, parts, gather)
            return output, join_metrics(each, gather)
        output = self._loss(batch, draws, gather)
        total = agent.total(output.losses)
        begin("backward")
        total.backward()
        metrics = metrics_of(output, total)
        return output, metrics if self.processes.size == 1 else join_metrics([metrics], gather)

    def _loss(self, batch: DeviceBatch, draws: Draws, join: Join) -> Output:
        with self._autocast():
            return self.agent.loss(
                batch.steps, batch.start, batch.previous_action, draws, self.exploration, self.anchor, join
            )

    def _continued(self, batch: DeviceBatch) -> DeviceBatch:
        """The batch with the final state of the previous one where it continues that."""
        start, first = batch.start, batch.previous_action
        if self.carry is not None and len(self.carry.state.deter) == len(
            start.deter
        ):  # a batch that continues the previous one starts from its final state
            start = State(*(_choose(batch.continues, a, b) for a, b in zip(self.carry.state, start, strict=True)))
            first = {
                key: torch.cat(
                    [_choose(batch.continues, self.carry.action[key], value[:, 0])[:, None], value[:, 1:]], 1
                )
                for key, value in first.items()
            }
        return batch._replace(start=start, previous_action=first)


def _placed(module: M, device: torch.device) -> M:
    """`module` on `device`. One that is there already is left as it is: fake tensors cannot be moved."""
    there = all(tensor.device == device for tensor in (*module.parameters(), *module.buffers()))
    return module if there else module.to(device)


def _choose(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """`torch.where` with a condition per row."""
    return torch.where(condition.view(-1, *[1] * (no.ndim - 1)), yes, no)
