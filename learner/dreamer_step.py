"""One DreamerV3 update: a function of parameters, batch and draws, with static shapes and no host synchronisation."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from learner.batch import DeviceBatch
from learner.config import LearnerConfig
from learner.optimizer import LaProp
from world_models.dreamer.acting import Carry
from world_models.dreamer.agent import Dreamer, Output
from world_models.dreamer.anchor import Anchor
from world_models.dreamer.disagreement import Disagreement
from world_models.dreamer.draws import Draws, draw_update, mix_seed
from world_models.dreamer.official_names import is_kernel, trainable
from world_models.dreamer.rssm import State
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


def choose_device(config: LearnerConfig) -> torch.device:
    """The configured device; `auto` is CUDA if available. Raises ValueError if CUDA is asked for and missing."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"learner.device={config.device!r}, but torch sees no CUDA device; use cpu or auto.")
    return torch.device(config.device)


class DreamerStep:
    """Losses, gradients, LaProp and the slow value, in that order. `seed` and the update number fix the draws; an
    ensemble for `exploration` and an `anchor` need none.

    It needs no more of Nexus: README.md has a loop of 15 lines around it, and `learner.batch.batch_of` makes batches of
    plain tensors. `state_dict()` of `agent` and of `optimizer`, `updates` and `carry` are all that it keeps.
    """

    def __init__(
        self, agent: Dreamer, config: LearnerConfig, seed: int = 0, exploration: Disagreement | None = None,
        anchor: Anchor | None = None,
    ):  # fmt: skip
        self.device = choose_device(config)
        self.agent = _placed(agent, self.device)
        self.exploration = _placed(exploration, self.device) if exploration is not None else None
        self.anchor = _placed(anchor, self.device) if anchor is not None else None
        self.config, self.seed = config, seed
        ensemble = exploration.named_parameters("exploration") if exploration is not None else ()
        self.optimizer = LaProp([*trainable(agent), *ensemble], config.optimizer, is_kernel)
        self.updates = 0
        self.carry: Carry | None = None
        self.generator = torch.Generator(self.device)
        bfloat16 = {"auto": self.device.type == "cuda", "bfloat16": True, "float32": False}[config.precision]
        self.autocast_dtype = torch.bfloat16 if bfloat16 else None
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = config.tf32
            torch.backends.cudnn.allow_tf32 = config.tf32

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, self.autocast_dtype) if self.autocast_dtype else nullcontext()

    def draws(self, rows: int, time: int) -> Draws:
        """The randomness of the coming update; the same for the same seed and update number."""
        c = self.agent.config
        take = min(c.imagination_last or time, time)
        self.generator.manual_seed(mix_seed(self.seed, self.updates))
        return draw_update(
            self.agent.action_space, rows, time, c.rssm.stoch, rows * take, c.imagination_length, self.generator
        )

    def __call__(self, batch: DeviceBatch, draws: Draws | None = None) -> Update:
        begin("prepare")
        agent, start, first = self.agent, batch.start, batch.previous_action
        if self.carry is not None:  # a batch that continues the previous one starts from its final state
            start = State(*(_choose(batch.continues, a, b) for a, b in zip(self.carry.state, start, strict=True)))
            first = {
                key: torch.cat(
                    [_choose(batch.continues, self.carry.action[key], value[:, 0])[:, None], value[:, 1:]], 1
                )
                for key, value in first.items()
            }
        draws = draws or self.draws(*batch.steps["is_first"].shape)
        if self.anchor is not None and self.anchor.due(self.updates):
            self.anchor.renew(agent.encoder, agent.rssm)
        self.optimizer.zero_grad()
        with self._autocast():
            output = agent.loss(batch.steps, start, first, draws, self.exploration, self.anchor)
            total = agent.total(output.losses)
        begin("backward")
        total.backward()
        begin("optimize")
        metrics = {f"loss/{key}": loss.detach().mean() for key, loss in output.losses.items()}
        metrics |= {"loss/total": total.detach()} | output.metrics
        metrics |= {f"optimizer/{key}": value for key, value in self.optimizer.step().items()}
        agent.update_slow()
        self.updates += 1
        sequence = output.sequence
        deter, stoch = sequence.deter.detach(), sequence.stoch.detach()
        self.carry = Carry(State(deter[:, -1], stoch[:, -1]), batch.last_action)
        return Update(metrics, {"deter": deter, "stoch": sequence.indices}, self.carry, output)


def _placed(module: M, device: torch.device) -> M:
    """`module` on `device`. One that is there already is left as it is: fake tensors cannot be moved."""
    there = all(tensor.device == device for tensor in (*module.parameters(), *module.buffers()))
    return module if there else module.to(device)


def _choose(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """`torch.where` with a condition per row."""
    return torch.where(condition.view(-1, *[1] * (no.ndim - 1)), yes, no)
