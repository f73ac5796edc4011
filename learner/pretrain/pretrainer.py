"""Updates of a model in pretraining. Update k depends on nothing but the state before it, the seed, k and the batch."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import SupportsFloat

import numpy as np
import torch
from torch import Tensor

from learner.adamw import AdamW
from learner.datasets.dataset import Example
from learner.learner import NonFiniteError
from learner.pretrain.config import TrainingConfig
from learner.pretrain.objective import Batch, Objective
from learner.processes import Processes
from replay.step import Rows
from world_models.genie.st_transformer import STBlock
from world_models.parameters import load_parameters
from world_models.vit import Block


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """`auto` is CUDA if available; each process of a machine has a device of its own. ValueError: there is no CUDA."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(f"training.device={name!r}, but torch sees no CUDA device; use cpu or auto.")
    return torch.device(f"cuda:{local_rank % torch.cuda.device_count()}" if name in ("auto", "cuda") else name)


class Pretrainer:
    """A model, its optimiser, and the count of updates."""

    def __init__(self, objective: Objective, config: TrainingConfig, *, seed: int, processes: Processes | None = None):
        self.objective, self.config, self.seed = objective, config, seed
        self.processes = processes or Processes()
        self.rows = self.processes.share(config.batch_size)
        self.device = choose_device(config.device, self.processes.local_rank)
        self.model = objective.model.to(self.device).train()
        bfloat16 = {"auto": self.device.type == "cuda", "bfloat16": True, "float32": False}[config.precision]
        self._dtype = torch.bfloat16 if bfloat16 else None
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.tf32
        if config.compile:
            for part in self.model.modules():
                if isinstance(part, (Block, STBlock)):
                    part.compile()
        trained = ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)
        self.optimizer = AdamW(trained, betas=(config.beta1, config.beta2), eps=config.eps)
        self._wrapped = self.processes.wrap(self.model)
        self._generator = torch.Generator()
        self.updates = 0

    def update(self, batch: Example) -> dict[str, SupportsFloat]:
        """One update on this process's share of batch number `updates`.

        Losses, rates and the norm of the gradients. NonFiniteError: a loss or gradient is not finite.
        """
        c, number = self.config, self.updates + 1
        drawn = self.draw(self.updates, c.batch_size)
        self.optimizer.zero_grad()
        with self.autocast():
            losses = self._wrapped(*self.objective.inputs(self.to_device(batch), drawn, self.rows))
            total = torch.stack([loss.mean() for loss in losses.values()]).sum()
        total.backward()
        norm = torch.nn.utils.get_total_norm(p.grad for p in self.model.parameters() if p.grad is not None)
        means = self.processes.mean(torch.stack([total.detach(), *(loss.detach().mean() for loss in losses.values())]))
        if not bool(torch.isfinite(means[0] + norm)):
            raise NonFiniteError(
                f"Update {number} of pretraining produced a loss of {float(means[0]):g} and a gradient of norm "
                f"{float(norm):g}. The last checkpoint is untouched; continue from it with a lower learning rate, or "
                "training.precision float32."
            )
        lr, decay = c.lr.at(number, c.updates), c.weight_decay.at(number, c.updates)
        self.optimizer.step(lr, decay)
        self.updates = number
        metrics: dict[str, SupportsFloat] = {
            f"loss/{key}": mean for key, mean in zip(("total", *losses), means, strict=True)
        }
        metrics |= {"optimizer/learning_rate": lr, "optimizer/weight_decay": decay, "optimizer/grad_norm": norm}
        if self.objective.averages:
            momentum = c.momentum.at(number, c.updates)
            self.model.update_target(momentum)  # type: ignore[operator]
            metrics["target/momentum"] = momentum
        return metrics

    def draw(self, number: int, batch_size: int) -> object:
        """The masks of batch `number`: the same for all processes, which take their rows of them."""
        self._generator.manual_seed(int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0]))
        return self.objective.draw(batch_size, self._generator)

    def to_device(self, batch: Example) -> Batch:
        """The batch as tensors."""
        tensors = {key: torch.from_numpy(value) for key, value in batch.items()}
        if self.device.type == "cpu":
            return tensors
        return {key: value.pin_memory().to(self.device, non_blocking=True) for key, value in tensors.items()}

    def autocast(self) -> AbstractContextManager:
        """The configured precision."""
        return torch.autocast(self.device.type, self._dtype) if self._dtype else nullcontext()

    def state(self) -> Rows:
        """Everything besides the model: the optimiser's moments and the count of updates."""
        out = {f"optimizer.{key}": value.cpu().numpy() for key, value in self.optimizer.state_dict().items()}
        return out | {"updates": np.array(self.updates)}

    def load(self, model: Mapping[str, np.ndarray], state: Rows) -> None:
        """Continue from the arrays of a model and from `state`."""
        load_parameters(self.model, model, "The checkpoint")
        self.load_moments(state)
        self.updates = int(state["updates"])

    def load_moments(self, state: Rows) -> None:
        """Continue with the optimiser's moments in `state`, of the same model."""
        self.optimizer.load_state_dict(dict(_optimizer(state)))


def _optimizer(state: Rows) -> Iterator[tuple[str, Tensor]]:
    for key, value in state.items():
        kind, _, name = key.partition(".")
        if kind == "optimizer":
            yield name, torch.tensor(value)
