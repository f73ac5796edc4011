"""Whether a cluster has the nodes and CPUs that a run asks for, and in which order nodes are tried for the learner."""

from collections.abc import Sequence

from deploy.distributed.cluster.probe import Cluster, Node, find_cluster
from deploy.wiring.config import ClusterConfig, RunConfig
from replay.counted import counted


def find_room(config: RunConfig) -> Cluster:
    """The running cluster that the configuration names. ValueError: it cannot be joined, or cannot hold the run, and
    the run is not to wait for its autoscaler."""
    cluster = find_cluster(config.cluster)
    assert cluster.here
    if not (config.cluster.wait and cluster.autoscales):
        require_capacity(config, cluster.nodes, cluster.here.id)
    return cluster


def learner_gpus(config: ClusterConfig, nodes: Sequence[Node], processes: int = 1) -> int:
    """GPUs that the learner reserves on its node."""
    if config.learner_gpus >= 0:
        return config.learner_gpus
    there = any(node.resources.get("GPU", 0) >= 1 for node in nodes if node.matches(config.learner_nodes))
    return processes if there else 0


def order(config: ClusterConfig, nodes: Sequence[Node], here: str, processes: int = 1) -> list[Node]:
    """The nodes that a learner of so many processes may run on, the best first: this one, `here`, then the others by
    name."""
    gpus = learner_gpus(config, nodes, processes)
    able = [node for node in nodes if node.matches(config.learner_nodes) and node.resources.get("GPU", 0) >= gpus]
    return sorted(able, key=lambda node: (node.id != here, node.name, node.id))


def require_capacity(config: RunConfig, nodes: Sequence[Node], here: str) -> None:
    """ValueError if no node matches what the configuration names, or if the cluster could not hold the run even if
    nobody else used it."""
    cluster = config.cluster
    for name in ("learner_nodes", "actor_nodes"):
        wanted = getattr(cluster, name)
        if not any(node.matches(wanted) for node in nodes):
            raise ValueError(
                f"No node of the Ray cluster matches cluster.{name}={wanted}; it has {counted(len(nodes), 'node')}, "
                f"with {_offered(nodes)}."
            )
    processes = config.learner.processes
    able, needed = order(cluster, nodes, here, processes), 1 + bool(config.evaluation.every)
    if not able:
        gpus = learner_gpus(cluster, nodes, processes)
        lower = f"lower learner.processes={processes} or" if processes > 1 else "lower"
        raise ValueError(f"No node for the learner has {counted(gpus, 'GPU')}; {lower} cluster.learner_gpus.")
    roomy = [node for node in able if node.resources.get("CPU", 0) >= needed]
    if not roomy:
        what = "learner and evaluator need" if needed > 1 else "learner needs"
        raise ValueError(
            f"The {what} {counted(needed, 'CPU')} on one node, but {able[0].name} offers Ray "
            f"{able[0].resources.get('CPU', 0):g}. Start it with a higher --num-cpus, or use another node."
        )
    room = 0
    for node in nodes:
        if node.matches(cluster.actor_nodes):
            free = node.resources.get("CPU", 0) - (needed if node is roomy[0] else 0)
            room += int(free / cluster.actor_cpus + 1e-9)
    actors = 0 if config.offline else config.actor.actors
    if room < actors:
        where = f" on its nodes with {cluster.actor_nodes}" if cluster.actor_nodes else ""
        beside = "the learner and the evaluator" if needed > 1 else "the learner"
        raise ValueError(
            f"Beside {beside}, the Ray cluster has room for {counted(room, 'actor')} of {cluster.actor_cpus:g} CPUs "
            f"each{where}, but actor.actors={actors}. Lower actor.actors or cluster.actor_cpus, or add nodes."
        )


def _offered(nodes: Sequence[Node]) -> str:
    labels = {f"{key}={value}" for node in nodes for key, value in node.labels.items() if not key.startswith("ray.io/")}
    usual = ("CPU", "GPU", "memory", "object_store_memory")
    resources = {name for node in nodes for name in node.resources if name not in usual and ":" not in name}
    each = [", ".join(sorted(names)) or "(none)" for names in (labels, resources)]
    return f"the labels {each[0]} and the resources {each[1]}"
