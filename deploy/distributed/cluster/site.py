"""The Ray cluster that a run of cluster mode has joined, and which of its nodes each process goes to. Torch-free."""

import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deploy.distributed.cluster.capacity import learner_gpus, order
from deploy.distributed.cluster.head_watch import HeadWatch
from deploy.distributed.cluster.probe import Cluster, Node
from deploy.distributed.cluster.room import Turn, alive, wait_for_nodes, wait_for_room
from deploy.distributed.cluster.user_code import FOLDER, named_module, runtime_environment
from deploy.distributed.learner_launcher_client import RemoteLearner
from deploy.distributed.learner_program import LearnerHandle
from deploy.distributed.process_end import reason_of
from deploy.distributed.ray_cluster import join_cluster
from deploy.distributed.remote import ask, start
from deploy.distributed.site import Role, Site
from deploy.distributed.whereabouts import whereabouts
from deploy.wiring.config import RunConfig
from replay.redis_url import PASSWORD_VARIABLE

LEARNER = 0.9  # CPUs that it reserves; the shards share the rest of one
PLACING = 15.0  # seconds for a node to find room for the learner
STARTING = 60.0  # seconds for the learner's launcher to answer then
PAUSE = 2.0  # seconds between looks for a node
PASSWORD = (PASSWORD_VARIABLE,)
LEARNERS = (PASSWORD_VARIABLE, "RAY_AUTH_MODE", "OMP_NUM_THREADS")
"""Variables of this process that others need."""


class ClusterSite(Site):
    """A cluster that runs already. The learner is on a node that sees the run directory, and so are evaluator and
    shards; the coordinator is on this one."""

    def __init__(self, config: RunConfig, logdir: Path, namespace: str, cluster: Cluster, note: Callable[[str], None]):
        self.config, self.logdir, self.namespace, self.address = config, logdir, namespace, cluster.address
        self.note = note
        if not cluster.protected:
            note(
                f"warning: the Ray cluster at {cluster.address} has no token authentication: whoever reaches it can "
                "run programs on its nodes. Start every node with RAY_AUTH_MODE=token."
            )
        self.directory = FOLDER if named_module(config) else "."
        with runtime_environment(config, Path.cwd(), logdir) as environment:
            join_cluster(cluster.address, cluster.protected, namespace, runtime_env=environment)
        self._head = HeadWatch(cluster.address)
        self._here = ray.get_runtime_context().get_node_id()
        self._autoscales, self._gpus = cluster.autoscales, 0
        self._learner_node = ""
        self._said: set[str] = set()
        self._turn = Turn()
        self._launcher: ActorHandle | None = None

    def settle(self, waits: Callable[[str], None]) -> None:
        config = self.config
        if config.cluster.wait:
            wait = wait_for_nodes if self._autoscales else wait_for_room
            wait(config, self._here, self._turn, waits)
        self._gpus = learner_gpus(config.cluster, alive(), config.learner.processes)
        self._launcher = self._first_launcher()

    def settled(self, handles: Sequence[ActorHandle]) -> None:
        self._turn.give_back_after(handles)

    def options(self, role: Role) -> dict[str, Any]:
        return {"environment": _variables(PASSWORD), **self._place(role)}

    def _place(self, role: Role) -> dict[str, Any]:
        if role == "coordinator":  # it writes to the run directory
            return {"cpus": 0, **_pinned(self._here)}
        if role == "shard":  # a folder on the disk of that node is of no use elsewhere
            cpus = (1 - LEARNER) / self.config.replay.shard_count  # Ray ignores where one without any should be
            return {"cpus": cpus, **_pinned(self._learner_node, soft=self.config.replay.kind == "memory")}
        if role == "evaluator":
            return {"cpus": 1, **_pinned(self._learner_node)}
        return {"cpus": self.config.cluster.actor_cpus, "scheduling_strategy": "SPREAD", **self._actor_nodes()}

    def start_learner(self, checkpoint: str, given: str) -> LearnerHandle:
        return RemoteLearner(self._launch, str(self.logdir), self.address, self.namespace, checkpoint, given)

    def awaits(self, handle: ActorHandle) -> str:
        return "a free CPU" if whereabouts(handle).waits else ""

    def host(self, node: str) -> str:
        return next((one.name for one in alive() if one.id == node), "")

    def lost(self) -> str:
        return self._head.lost()

    def _actor_nodes(self) -> dict[str, Any]:
        nodes = self.config.cluster.actor_nodes
        if not nodes:
            return {}
        if not any(node.matches(nodes) for node in alive()):
            self._say(f"no node with {nodes} is left; actors that have to start again go to any node.")
            return {}
        self._said.clear()
        key, equals, value = nodes.partition("=")
        return {"label_selector": {key: value}} if equals else {"resources": {nodes: 0.001}}

    def _say(self, line: str) -> None:
        """Note a line once until things change."""
        if line not in self._said:
            self._said.add(line)
            self.note(line)

    def _first_launcher(self) -> ActorHandle:
        reasons = []
        for node in self._order():
            launcher, reason = self._try(node)
            if launcher:
                return launcher
            reasons.append(reason)
        raise ValueError(" ".join(reasons))

    def _launch(self, over: Callable[[], bool]) -> ActorHandle | None:
        """A launcher on a node that matches, waiting for one if necessary."""
        while not over():
            launcher, self._launcher = self._launcher, None
            if launcher:
                return launcher
            reason = f"no node matches cluster.learner_nodes={self.config.cluster.learner_nodes}."
            for node in sorted(self._order(), key=lambda node: node.id != self._learner_node):
                launcher, reason = self._try(node)
                if launcher:
                    return launcher
            self.note(f"the learner waits for a node: {reason}")
            time.sleep(PAUSE)
        return None

    def _order(self) -> list[Node]:
        return order(self.config.cluster, alive(), self._here, self.config.learner.processes)

    def _try(self, node: Node) -> tuple[ActorHandle | None, str]:
        """A launcher on this node, or why there can be none."""
        launcher = start(
            "deploy.distributed.learner_launcher.LearnerLauncher", _variables(LEARNERS), cpus=LEARNER, gpus=self._gpus,
            threads=8, label="learner-launcher", **_pinned(node.id),
        )  # fmt: skip
        try:
            deadline = time.monotonic() + PLACING
            while whereabouts(launcher).waits:
                if time.monotonic() > deadline:
                    ray.kill(launcher)
                    what = "CPU" if not self._gpus else f"CPU or not {self._gpus} free GPU(s)"
                    return None, f"Node {node.name} has no free {what} for the learner; other jobs hold them."
                time.sleep(0.1)
            if self._sees(launcher):
                self._learner_node = node.id
                return launcher, ""
        except (RayError, OSError) as error:
            return None, f"Node {node.name}: {reason_of(error)[0] if isinstance(error, RayError) else error}"
        ray.kill(launcher)
        here = next((one.name for one in alive() if one.id == self._here), "this machine")
        return None, (
            f"{self.logdir} on {here}, where this command runs, is not the same directory on {node.name}, where the "
            "learner is to run, or cannot be written there. Put --logdir on a file system that both mount, or choose "
            "the learner's node with --cluster.learner-nodes."
        )

    def _sees(self, launcher: ActorHandle) -> bool:
        """Whether the learner's node reads what this one writes into the run directory, and the other way round."""
        token = secrets.token_hex(16)
        question, answer = self.logdir / f".seen-{token[:8]}", self.logdir / f".seen-{token[:8]}.answer"
        try:
            question.write_text(token)
            seen = ask(launcher, "sees", str(question), token, timeout=STARTING)
            return seen and answer.read_text() == token[::-1]
        except FileNotFoundError:
            return False
        finally:
            question.unlink(missing_ok=True)
            answer.unlink(missing_ok=True)


def _variables(names: Sequence[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def _pinned(node: str, soft: bool = False) -> dict[str, Any]:
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=soft)}
