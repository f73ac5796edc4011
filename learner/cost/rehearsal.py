"""An update on tensors that have shapes and no numbers: what it would do, before anything large is allocated.

Legend: B batch, T time.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from learner.batch import DeviceBatch
from learner.config import LearnerConfig
from learner.cost.counting import Counting, Work
from learner.dreamer_step import DreamerStep
from world_models.chunks import whole
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.anchor import Anchor
from world_models.dreamer.disagreement import Disagreement
from world_models.space import Space, Spaces


class Networks(NamedTuple):
    """What is trained, and what is kept beside it."""

    agent: Dreamer
    exploration: Disagreement | None = None
    anchor: Anchor | None = None

    def modules(self) -> dict[str, nn.Module]:
        """Those that there are: each part of the agent, and what is beside it."""
        beside = {"exploration": self.exploration, "anchor": self.anchor}
        return dict(self.agent.named_children()) | {key: one for key, one in beside.items() if one is not None}


class Bytes(NamedTuple):
    """Memory of an update by what is in it."""

    parameters: int
    """Those of the slow value, an anchor and constants included."""
    moments: int
    """Of the optimizer: two for each trained parameter."""
    gradients: int
    batch: int
    activations: int
    """All else at the moment when most is in use: what is kept for the backward pass, and intermediate results."""


class Rehearsal(NamedTuple):
    """What one update would do."""

    stages: dict[str, Work]
    memory: Bytes
    parameters: dict[str, int]
    """Numbers in each module, trained or not."""
    trained: int
    acting: int
    """Numbers that a policy snapshot carries."""


def rehearse(build: Callable[[], Networks], config: LearnerConfig, *, on_gpu: bool, cache: int) -> Rehearsal:
    """Count one update of what `build` makes on a device with `cache` bytes of cache. On a GPU everything is computed
    in one piece and, unless `config.precision` says otherwise, products in bfloat16, of which a CPU's operators then
    stand for the GPU's."""
    precision = "bfloat16" if on_gpu and config.precision == "auto" else config.precision
    with torch.device("meta"):
        networks = build()
    counting = Counting(cache)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, whole() if on_gpu else nullcontext(), torch.compiler.set_stance("force_eager"):
        with counting:
            for network in networks:
                if network is not None:
                    network.to_empty(device="cpu")
            config = replace(config, device="cpu", precision=precision, compile=False)  # counted operator by operator
            step = DreamerStep(networks.agent, config, 0, *networks[1:])
            batch = fake_batch(networks.agent, config)
        stages = counting.count(lambda: step(batch))
    parameters, trained = _nbytes(*networks), _nbytes_of(step.optimizer.params)
    moments, given = _nbytes_of([*step.optimizer.nu, *step.optimizer.mu]), _nbytes_of(_tensors(batch))
    rest = counting.memory.peak - parameters - moments - trained - given
    agent = networks.agent
    return Rehearsal(
        stages, Bytes(parameters, moments, trained, given, rest),
        {name: sum(p.numel() for p in module.parameters()) for name, module in networks.modules().items()},
        sum(p.numel() for p in step.optimizer.params),
        sum(p.numel() for module in (agent.encoder, agent.rssm, agent.policy) for p in module.parameters()),
    )  # fmt: skip


def fake_batch(agent: Dreamer, config: LearnerConfig) -> DeviceBatch:
    """A batch without numbers; with them if no `FakeTensorMode` is active, all zero."""
    lead = config.batch_size, config.batch_length

    def zeros(spaces: Spaces, *lead: int) -> dict[str, Tensor]:
        return {key: torch.zeros(*lead, *one.shape, dtype=_dtype(one)) for key, one in spaces.items()}

    flags = {key: torch.zeros(*lead, dtype=torch.bool) for key in ("is_first", "is_last", "is_terminal")}
    return DeviceBatch(
        zeros(agent.observation_space, *lead) | {"reward": torch.zeros(*lead)} | flags,
        agent.rssm.initial(config.batch_size),
        zeros(agent.action_space, *lead),
        zeros(agent.action_space, config.batch_size),
        torch.zeros(config.batch_size, dtype=torch.bool),
    )


def _dtype(space: Space) -> torch.dtype:
    return getattr(torch, space.dtype.name)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _nbytes(*modules: nn.Module | None) -> int:
    return _nbytes_of([t for one in modules if one is not None for t in (*one.parameters(), *one.buffers())])


def _nbytes_of(tensors: list[Tensor]) -> int:
    """Of their storages, each once."""
    return sum({id(t.untyped_storage()): t.untyped_storage().nbytes() for t in tensors}.values())
