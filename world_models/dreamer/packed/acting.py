"""Acting on a CPU: what `ActingModel.act` computes, from packed weights."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from world_models.dreamer.acting import ActingModel, Carry
from world_models.dreamer.packed.encoder import PackedEncoder
from world_models.dreamer.packed.policy import PackedPolicy
from world_models.dreamer.packed.rssm import PackedRSSM, by_class
from world_models.dreamer.packed.vector import join


class PackedActing:
    """Acts with copies of an `ActingModel`'s weights, made again when those have changed in place: by an optimiser, a
    snapshot or `load_state_dict`. Parameters that are replaced, or changed through `.data`, need a new one.

    Images are convolved in `dtype`; everything else is float32.
    """

    def __init__(self, model: ActingModel, dtype: torch.dtype = torch.float32):
        self.model, self.dtype = model, dtype
        self.parameters = list(model.parameters())
        self.versions: list[int] = []

    @torch.inference_mode()
    def act(
        self,
        carry: Carry,
        obs: dict[str, Tensor],
        reset: Bool[Tensor, " N"],
        posterior_draw: Tensor,
        action_draw: dict[str, Tensor] | None,
    ) -> tuple[Carry, Int[Tensor, "N S"]]:
        """`ActingModel.act` without its distributions."""
        # Every change of a tensor in place counts its version up, be it by an optimiser or by a snapshot.
        if (versions := [_version(parameter) for parameter in self.parameters]) != self.versions:
            self._pack()
            self.versions = versions
        action = join(self.model.action_space, carry.action)
        state, stoch, index = self.rssm.observe(carry.state, self.encoder(obs), action, reset, posterior_draw)
        taken = self.policy(torch.cat([state.deter, stoch], -1), action_draw)
        return Carry(state, taken), index

    def _pack(self) -> None:
        model, config = self.model, self.model.rssm.config
        self.encoder, self.rssm = PackedEncoder(model.encoder, self.dtype), PackedRSSM(model.rssm)
        self.policy = PackedPolicy(model.policy)
        # The policy sees the latents class by class.
        first = self.policy.mlp.layers[0].linear
        deter, stoch = first.weight.split([config.deter, config.stoch * config.classes])
        first.weight = torch.cat([deter, by_class(stoch, config.stoch)])


def _version(parameter: Tensor) -> int:
    """How often it has been changed; a parameter that was made in inference mode does not count."""
    return -1 if parameter.is_inference() else parameter._version
