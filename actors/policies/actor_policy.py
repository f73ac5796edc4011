"""What an actor asks of its policy."""

from typing import Any, Protocol

from actors.trivial_policies import Arrays, Policy
from world_models.snapshot import Snapshot


class ActorPolicy(Policy, Protocol):
    """What an actor asks of a policy beside acting, be it DreamerV3's, a planner's or any other agent's."""

    version: int
    """Of the newest snapshot it acts with."""

    @property
    def latents(self) -> Arrays:
        """What it stores with every step: for each key, the value of one step that it did not choose."""

    def override(self, actions: Arrays) -> Any:
        """The carry after a step with `actions` `[N ...]` that were chosen without it."""

    def state(self, carry: Any) -> Arrays:
        """A carry as arrays, for checkpoints."""

    def load(self, arrays: Arrays) -> Any:
        """The inverse of `state`."""

    def update(self, snapshot: Snapshot) -> None:
        """Act with the parameters of a snapshot from now on."""
