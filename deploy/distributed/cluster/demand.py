"""Asking the autoscaler of a Ray cluster for nodes. It adds them only for what waits for them, so a placement group of
what a run reserves waits in its place. Torch-free."""

from contextlib import suppress
from typing import Any

from ray._private.worker import global_worker
from ray.core.generated import autoscaler_pb2
from ray.exceptions import RpcError
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group

from deploy.wiring.config import RunConfig

ANSWERING = 10  # seconds
SOME = 0.001  # of a custom resource that marks a node


class Demand:
    """What a run reserves, while it waits for nodes; it ends with this process."""

    def __init__(self) -> None:
        self._group: PlacementGroup | None = None
        self._wanted: Any = None

    def make(self, config: RunConfig) -> None:
        """Ask for what this run reserves, in place of what was asked before."""
        if (wanted := bundles(config)) != self._wanted:
            self.drop()
            resources, labels = wanted
            self._group, self._wanted = placement_group(resources, bundle_label_selector=labels), wanted

    def drop(self) -> None:
        """Ask for nothing, and leave what is there to others."""
        if self._group:
            remove_placement_group(self._group)
        self._group = self._wanted = None

    def met(self) -> bool:
        """Whether there is room for all of it now, which it holds until it is dropped."""
        return self._group is not None and placement_group_table(self._group).get("state") == "CREATED"

    def refused(self) -> bool:
        """Whether the autoscaler has no nodes for it, at least at present."""
        if not self._group:
            return False
        worker: Any = global_worker
        messages: Any = autoscaler_pb2
        reply = messages.GetClusterStatusReply()
        with suppress(RpcError):  # the head is busy; it is asked again
            reply.ParseFromString(worker.gcs_client.get_cluster_status(timeout_s=ANSWERING))
        refused = reply.autoscaling_state.infeasible_gang_resource_requests
        return any(self._group.id.hex() in one.details for one in refused)


def bundles(config: RunConfig) -> tuple[list[dict[str, float]], list[dict[str, str]]]:
    """The resources that learner and evaluator reserve together on one node, and each actor; and the labels of their
    nodes."""
    cluster, made = config.cluster, []
    first = {"CPU": 1.0 + bool(config.evaluation.every), "GPU": float(max(0, cluster.learner_gpus))}
    made.append((first, cluster.learner_nodes))
    actors = 0 if config.offline else config.actor.actors
    made += [({"CPU": cluster.actor_cpus}, cluster.actor_nodes)] * actors
    resources, labels = [], []
    for amounts, nodes in made:
        key, equals, value = nodes.partition("=")
        marked = {nodes: SOME} if nodes and not equals else {}
        resources.append({name: amount for name, amount in (amounts | marked).items() if amount})
        labels.append({key: value} if equals else {})
    return resources, labels
