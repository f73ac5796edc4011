"""Waiting for room in a cluster that other jobs fill: one run at a time has the turn to be placed. Torch-free."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import ray
from ray.actor import ActorHandle

from deploy.distributed.cluster.capacity import learner_gpus, require_capacity
from deploy.distributed.cluster.demand import Demand
from deploy.distributed.cluster.probe import Node
from deploy.distributed.remote import start
from deploy.distributed.whereabouts import whereabouts
from deploy.wiring.config import RunConfig

TURN, NAMESPACE = "turn", "nexus-turn"
PAUSE, LATER = 1.0, 10.0  # seconds between looks, and until an autoscaler is asked again
PLACING = 30.0  # seconds for Ray to give processes their places, which are free
OTHERS = "waits for its turn: another run is being placed, or waits for room"


class Turn:
    """A named actor that exists once in a cluster, and ends with the process that has it."""

    def __init__(self) -> None:
        self._holder: ActorHandle | None = None

    def take(self) -> bool:
        """Whether this process has it now."""
        if self._holder is None:
            try:
                self._holder = start("builtins.object", cpus=0, name=TURN, namespace=NAMESPACE)
            except ValueError:  # the name is taken
                return False
        return True

    def give_back(self) -> None:
        """Let the next one have it."""
        if self._holder is not None:
            ray.kill(self._holder)
            self._holder = None

    def give_back_after(self, handles: Sequence[ActorHandle]) -> None:
        """Let the next one have it once these processes have their places, so that they no longer look free."""
        deadline = time.monotonic() + PLACING
        while self._holder and any(whereabouts(one).waits for one in handles) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.give_back()


def wait_for_room(config: RunConfig, here: str, turn: Turn, tell: Callable[[str], None]) -> None:
    """Wait until the cluster has room for the run beside everything else, and have the turn then. `tell` is called
    with what is being waited for."""
    while True:
        wanted = _wanted(config, nodes := alive())
        if lack := _lack(wanted, nodes, here):
            turn.give_back()  # others may fit
            tell(f"waits for nodes: {lack}")
        elif not turn.take():
            tell(OTHERS)
        elif lack := _lack(wanted, free(nodes), here):
            tell(f"waits for other jobs to leave room: {lack.partition('. ')[0]}")
        else:
            return
        time.sleep(PAUSE)


def wait_for_nodes(config: RunConfig, here: str, turn: Turn, tell: Callable[[str], None]) -> None:
    """The same in a cluster with an autoscaler, which is asked for the nodes that are missing."""
    demand = Demand()
    try:
        while True:
            wanted = _wanted(config, nodes := alive())
            if not turn.take():
                tell(OTHERS)
            elif not (lack := _lack(wanted, free(nodes), here)):
                return
            elif demand.met():
                demand.drop()  # its nodes are the run's now
            elif demand.refused():
                tell(f"waits for nodes, of which the autoscaler has no more now: {lack.partition('. ')[0]}")
                demand.drop()
                turn.give_back()  # others may fit
                time.sleep(LATER)
            else:
                demand.make(wanted)
                tell(f"waits for the autoscaler to add nodes: {lack.partition('. ')[0]}")
            time.sleep(PAUSE)
    finally:
        demand.drop()


def _wanted(config: RunConfig, nodes: Sequence[Node]) -> RunConfig:
    """With the learner's GPUs, which it waits for also while others hold them."""
    gpus = learner_gpus(config.cluster, nodes, config.learner.processes)
    return replace(config, cluster=replace(config.cluster, learner_gpus=gpus))


def _lack(config: RunConfig, nodes: Sequence[Node], here: str) -> str:
    try:
        require_capacity(config, nodes, here)
    except ValueError as error:
        return str(error).rstrip(".")
    return ""


def alive() -> list[Node]:
    """The nodes of the cluster that this process has joined, with all that they offer."""
    return [
        Node(
            one["NodeID"], f"{one['NodeManagerHostname']} ({one['NodeManagerAddress']})",
            "node:__internal_head__" in one["Resources"], False, dict(one["Labels"]), dict(one["Resources"]),
        )
        for one in ray.nodes() if one["Alive"]
    ]  # fmt: skip


def free(nodes: Sequence[Node]) -> list[Node]:
    """The nodes with what nobody has reserved."""
    from ray._private.state import available_resources_per_node  # the public one adds the nodes up

    left = available_resources_per_node()
    return [node._replace(resources=dict(left.get(node.id, {}))) for node in nodes]
