"""The state of RLlib's learner as plain arrays. RLlib's own checkpoints are pickles, and lack SAC's entropy scale."""

from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.algorithm import Algorithm

from deploy.distributed.baselines.replay import MODULE

_MODULE, _OPTIMIZER, _ALPHA = "module.", "optimizer.", "log_alpha"


def updates(algorithm: Algorithm) -> int:
    """Gradient steps so far."""
    _, optimizer = _learner(algorithm).get_optimizers_for_module(MODULE)[0]
    return max((int(state["step"]) for state in optimizer.state.values()), default=0)


def module(algorithm: Algorithm) -> Any:
    """The networks that are trained, RLlib's TorchRLModule."""
    return _learner(algorithm).module[MODULE].unwrapped()


def arrays(algorithm: Algorithm) -> dict[str, np.ndarray]:
    """Networks, their targets, optimisers, and SAC's entropy scale."""
    learner = _learner(algorithm)
    found = {f"{_MODULE}{name}": value for name, value in module(algorithm).state_dict().items()}
    for name, optimizer in learner.get_optimizers_for_module(MODULE):
        for index, state in optimizer.state_dict()["state"].items():
            found |= {f"{_OPTIMIZER}{name}.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    if alpha := getattr(learner, "curr_log_alpha", None):
        found[_ALPHA] = alpha[MODULE]
    return {name: value.detach().cpu().numpy() for name, value in found.items()}


def load(algorithm: Algorithm, found: dict[str, np.ndarray]) -> None:
    """Continue with the arrays that `arrays` gave."""
    learner = _learner(algorithm)
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in found.items()}
    weights = {name.removeprefix(_MODULE): value for name, value in tensors.items() if name.startswith(_MODULE)}
    module(algorithm).load_state_dict(weights)
    for name, optimizer in learner.get_optimizers_for_module(MODULE):
        prefix, state = f"{_OPTIMIZER}{name}.", dict[int, dict[str, torch.Tensor]]()
        for key in [key for key in tensors if key.startswith(prefix)]:
            index, _, part = key.removeprefix(prefix).partition(".")
            state.setdefault(int(index), {})[part] = tensors[key]
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    if _ALPHA in tensors:
        with torch.no_grad():
            learner.curr_log_alpha[MODULE].copy_(tensors[_ALPHA])
    group = algorithm.env_runner_group
    assert group is not None, "the algorithm has no environments"
    group.sync_weights(from_worker_or_learner_group=algorithm.learner_group, inference_only=True)


def _learner(algorithm: Algorithm) -> Any:
    """The learner, which is in this process."""
    (found,) = algorithm.learner_group.foreach_learner(lambda learner: learner)
    return getattr(found, "get", lambda: found)()
