"""AdamW for pretraining (Loshchilov and Hutter 2019): biases and other one-dimensional parameters do not decay."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq")


class AdamW:
    """PyTorch's AdamW over named parameters; learning rate and weight decay are given anew for each update."""

    def __init__(
        self, parameters: Iterable[tuple[str, Tensor]], betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ):
        self.named = dict(parameters)
        if not self.named:
            raise ValueError("AdamW got no parameters; pass the model's trainable named_parameters().")
        decayed = [p for name, p in self.named.items() if p.ndim > 1 and not name.endswith("bias")]
        fixed = [p for name, p in self.named.items() if p.ndim <= 1 or name.endswith("bias")]
        groups = [{"params": group} for group in (decayed, fixed) if group]
        self.torch = torch.optim.AdamW(groups, betas=betas, eps=eps, weight_decay=0.0)
        self._decays = bool(decayed)

    def zero_grad(self) -> None:
        self.torch.zero_grad(set_to_none=True)

    def step(self, lr: float, weight_decay: float) -> None:
        """Update the parameters that have gradients."""
        for group in self.torch.param_groups:
            group["lr"] = lr
        if self._decays:
            self.torch.param_groups[0]["weight_decay"] = weight_decay
        self.torch.step()

    def state_dict(self) -> dict[str, Tensor]:
        """Flat tensors: `step.<name>`, `exp_avg.<name>`, `exp_avg_sq.<name>` of every parameter updated so far."""
        out = {}
        for name, p in self.named.items():
            for key, value in self.torch.state.get(p, {}).items():
                out[f"{key}.{name}"] = value
        return out

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`. ValueError names what does not fit."""
        loaded: dict[Tensor, dict[str, Any]] = {}
        for key, value in state.items():
            kind, _, name = key.partition(".")
            if name not in self.named or kind not in ("step", *MOMENTS):
                raise ValueError(
                    f"Optimiser state {key!r} fits no parameter; load it into the model it was saved from."
                )
            p = self.named[name]
            if kind in MOMENTS and value.shape != p.shape:
                raise ValueError(
                    f"Optimiser state {key!r} is {tuple(value.shape)}, the parameter {tuple(p.shape)}; load it into "
                    "the model it was saved from."
                )
            device = torch.device("cpu") if kind == "step" else p.device  # where PyTorch keeps them
            loaded.setdefault(p, {})[kind] = value.to(device, copy=True)
        self.torch.state.clear()
        self.torch.state.update(loaded)
