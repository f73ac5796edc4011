"""Requests to a run of a cluster from any machine that has joined it, without its directory: the cluster's token lets
them in."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util import list_named_actors

from deploy.distributed.cluster.probe import find_cluster
from deploy.distributed.coordinator_client import AWAY, COORDINATOR
from deploy.distributed.ray_cluster import join_cluster
from deploy.distributed.remote import ask
from deploy.stored.control import RunUnreachableError, new_request_name
from deploy.wiring.config import ClusterConfig

POLL = 0.2
ANSWERING = 10.0  # seconds for a coordinator to say which run it belongs to


class ClusterRun:
    """A run in progress of the cluster at `address`, steered as `RunDirectory` steers one through its directory."""

    def __init__(self, address: str, run: str):
        """`run`: its directory, or the end of that path. ValueError: there is no such cluster; RunUnreachableError: no
        such run in it."""
        cluster = find_cluster(ClusterConfig(address=address))
        if not ray.is_initialized():
            join_cluster(cluster.address, cluster.protected, "nexus-control")
        found = {str(status.get("run")): (handle, status) for handle, status in _runs()}
        matching = [name for name in found if name == run or name.endswith(f"/{run.strip('/')}")]
        if len(matching) != 1:
            there = ", ".join(sorted(found)) or "none"
            raise RunUnreachableError(
                f"{'Several runs' if matching else 'No run'} of the cluster at {address} match {run!r}; active there: "
                f"{there}. Give the whole path."
            )
        self.name = matching[0]
        self._coordinator = found[self.name][0]

    def status(self) -> dict[str, Any]:
        """What `status.json` says; empty if its coordinator is away."""
        try:
            status: dict[str, Any] = ask(self._coordinator, "status", timeout=ANSWERING)
            return status
        except (RayActorError, GetTimeoutError):
            self._find_again()
            return {}

    def active(self) -> bool:
        """Whether the run is still there."""
        if self.status():
            return True
        return any(status.get("run") == self.name for _, status in _runs())

    def ask(
        self, request: Mapping[str, Any], timeout: float = 60.0, waiting: Callable[[float], None] | None = None
    ) -> dict[str, Any]:
        """See `deploy.stored.control.ask`. A coordinator that is replaced meanwhile is found again; RunUnreachableError
        once it is away for AWAY seconds."""
        name, begun = new_request_name(), time.monotonic()
        self._call("request", name, dict(request))
        heard, replaced = begun, False
        while (waited := time.monotonic() - begun) <= timeout:
            try:
                reply: dict[str, Any] | None = self._call("answered", name)
                heard = time.monotonic()
            except RunUnreachableError:
                if time.monotonic() - heard > AWAY:
                    raise
                reply, replaced = None, True
            if reply is not None:
                if "error" in reply:
                    raise ValueError(reply["error"])
                return reply
            if waiting:
                waiting(waited)
            time.sleep(POLL)
        raise RunUnreachableError(
            f"The run {self.name} has not answered within {timeout:g} s{self._withdraw(name, replaced)}"
        )

    def _withdraw(self, name: str, replaced: bool) -> str:
        """What becomes of a request without an answer, in words."""
        try:
            if self._call("withdraw", name):
                return "; the request is withdrawn."
        except RunUnreachableError:
            replaced = True
        if replaced:
            return "; its coordinator was away meanwhile, so the request may be carried out or lost."
        return "; it is still carrying out the request."

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return ask(self._coordinator, method, *arguments, timeout=ANSWERING)
        except (RayActorError, GetTimeoutError) as error:
            self._find_again()
            raise RunUnreachableError(
                f"The coordinator of {self.name} does not answer: it has died and is being replaced, or the run has "
                "ended. Try again."
            ) from error

    def _find_again(self) -> None:
        self._coordinator = next(
            (handle for handle, status in _runs() if status.get("run") == self.name), self._coordinator
        )


def _runs() -> list[tuple[ActorHandle, dict[str, Any]]]:
    """The coordinators of the cluster with the status of their runs, those that answer."""
    found = []
    for actor in list_named_actors(all_namespaces=True):
        if actor["name"] != COORDINATOR:
            continue
        try:
            handle = ray.get_actor(COORDINATOR, namespace=actor["namespace"])
            status = ask(handle, "status", timeout=ANSWERING)
        except (ValueError, AttributeError, RayActorError, GetTimeoutError):  # gone, or none of ours
            continue
        if isinstance(status, dict):
            found.append((handle, status))
    return found
