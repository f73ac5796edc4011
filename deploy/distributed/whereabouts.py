"""Where the process of a Ray actor is, by what Ray itself knows of it, and ending one that hangs. Torch-free."""

import contextlib
import os
import signal
from typing import Any, NamedTuple

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

PENDING = "PENDING_CREATION"
KILLING = 10.0  # seconds for a process on another node to be killed


class Whereabouts(NamedTuple):
    """Of the process of an actor."""

    node: str
    """Ray's id of its node."""
    process: int
    """Its process id there; 0 while it waits for a place or has ended."""
    state: str
    """Ray's name of the actor's state."""

    @property
    def waits(self) -> bool:
        """No node has room for it yet."""
        return not self.process and self.state in (PENDING, "RESTARTING")


def whereabouts(handle: ActorHandle) -> Whereabouts:
    """Where the process of `handle` is."""
    from ray._private.state import actors  # the public one asks the dashboard, which need not run

    known: dict[str, Any] = actors(handle._actor_id.hex())
    if not known:  # it has only just been asked for
        return Whereabouts("", 0, PENDING)
    return Whereabouts(known["Address"]["NodeID"], int(known["Pid"] or 0), known["State"])


def end(handle: ActorHandle) -> None:
    """End an actor and its process at once, on whatever node: one that is stopped does not do what Ray asks of it."""
    place = whereabouts(handle)
    ray.kill(handle)
    if place.process:
        end_process(place.node, place.process)


def end_process(node: str, process: int) -> None:
    """End a process on a node at once; of an actor that Ray restarts, the next one is not touched."""
    if node == ray.get_runtime_context().get_node_id():
        _kill(process)
        return
    pinned: Any = ray.remote(_kill).options(
        num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
    )
    with contextlib.suppress(RayError):  # with its node, it has ended too
        ray.get(pinned.remote(process), timeout=KILLING)


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
