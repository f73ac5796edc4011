"""Looks at a Ray cluster in a process of its own: where there is none, or a token is wrong, Ray's client waits for up
to a minute, writes to the terminal, or ends its process. Imports Ray only in that process.

`python -m deploy.distributed.cluster.probe ADDRESS` prints what is there, or what is wrong with it, as JSON.
"""

import json
import os
import socket
import subprocess
import sys
from typing import Any, NamedTuple, Self

from deploy.wiring.config import ClusterConfig

LOOKING = 15.0  # seconds
REACHING = 5.0  # seconds to connect
ADDRESS = "RAY_ADDRESS"
MODE = "RAY_AUTH_MODE"
LEVEL = "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL"


class Node(NamedTuple):
    """A node of a Ray cluster."""

    id: str
    name: str
    """Host name and IP address."""
    head: bool
    here: bool
    """On this machine."""
    labels: dict[str, str]
    resources: dict[str, float]

    def matches(self, nodes: str) -> bool:
        """Whether it has this label, as KEY=VALUE, or this custom resource; empty matches every node."""
        key, equals, value = nodes.partition("=")
        return not nodes or (self.labels.get(key) == value if equals else self.resources.get(nodes, 0) > 0)


class Cluster(NamedTuple):
    """A running Ray cluster."""

    address: str
    """HOST:PORT of its head's GCS."""
    protected: bool
    """Whether it requires a token."""
    autoscales: bool
    """Whether an autoscaler (Ray's v2) adds nodes for what waits for them."""
    nodes: list[Node]

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        nodes = [Node(**node) for node in document["nodes"]]
        return cls(document["address"], document["protected"], document["autoscales"], nodes)

    @property
    def here(self) -> Node | None:
        """Its node on this machine; the head if there are several."""
        return min((node for node in self.nodes if node.here), key=lambda node: not node.head, default=None)


def find_cluster(config: ClusterConfig) -> Cluster:
    """The running cluster that `config` names. ValueError: there is none, or this process cannot join it."""
    address = config.address or os.environ.get(ADDRESS, "")
    if not address:
        raise ValueError(
            "--mode cluster needs the address of a Ray cluster: give --cluster.address HOST:PORT, or `auto` for the "
            f"cluster of this machine, or set {ADDRESS}."
        )
    given = "cluster.address" if config.address else ADDRESS
    if address != "auto":
        host, colon, port = address.rpartition(":")
        if not (host and colon and port.isdigit() and int(port) < 1 << 16) or "://" in host:
            raise ValueError(f"{given}={address} is not of the form HOST:PORT, such as 10.0.0.5:6379, nor `auto`.")
    return look_at(address)


def look_at(address: str) -> Cluster:
    """The cluster at HOST:PORT, or `auto`. ValueError: see `find_cluster`."""
    command = [sys.executable, "-P", "-m", "deploy.distributed.cluster.probe", address]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LOOKING, start_new_session=True
        )
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"{address} takes connections, but does not answer as the head of a Ray cluster. Check the address: the "
            "port is that of `ray start --head --port` (6379 unless given), not that of the dashboard or the client."
        ) from None
    try:
        document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"The Ray cluster at {address} could not be examined: {last}") from None
    if "error" in document:
        raise ValueError(document["error"])
    cluster = Cluster.from_json(document)
    if cluster.here is None:
        raise ValueError(
            f"No node of the Ray cluster at {cluster.address} runs on this machine, and a process can join a cluster "
            f"only through a node of its own machine. Run this command on one of {_names(cluster)}, or make this "
            f"machine a node: ray start --address {cluster.address} --num-cpus 0"
        )
    return cluster


def _names(cluster: Cluster) -> str:
    names = sorted(node.name for node in cluster.nodes)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


class _RefusedError(Exception):
    pass


def _examine(address: str) -> dict[str, Any]:
    os.environ[MODE] = "disabled"  # first without a token: what answers needs none
    os.environ.pop(ADDRESS, None)  # which Ray would prefer to `auto`
    from ray._private import services

    if address == "auto":
        found = sorted(services.find_gcs_addresses())
        if len(found) != 1:
            several = f"several Ray clusters run on this machine, at {', '.join(found)}; give the address of one."
            none = "no Ray cluster runs on this machine. Start one with `ray start --head`, or give its HOST:PORT."
            raise _RefusedError(f"cluster.address=auto: {several if found else none}")
        address = found[0]
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHING).close()
    except OSError as error:
        raise _RefusedError(
            f"No Ray cluster answers at {address}: {error.strerror or error}. Check the address, and that its head is "
            "running (`ray start --head`)."
        ) from None
    protected = False
    try:
        client = _client(address)
    except Exception as error:
        if "InvalidAuthToken" not in str(error):
            raise
        protected = True
        client = _with_token(address)
    _require_versions(address, json.loads(client.internal_kv_get(b"CLUSTER_METADATA", b"cluster", timeout=REACHING)))
    here = services.find_node_ids()
    nodes = [
        {"id": node_id.hex(), "name": _name(info), "head": info.is_head_node, "here": node_id.hex() in here,
         "labels": dict(info.labels), "resources": dict(info.resources_total)}
        for node_id, info in client.get_all_node_info(timeout=REACHING).items() if info.state == 0
    ]  # fmt: skip
    return {"address": address, "protected": protected, "autoscales": _autoscales(client), "nodes": nodes}


def _autoscales(client: Any) -> bool:
    raylet = _raylet()
    key, namespace = raylet.GCS_AUTOSCALER_V2_ENABLED_KEY.encode(), raylet.GCS_AUTOSCALER_STATE_NAMESPACE.encode()
    return bool(client.internal_kv_get(key, namespace, timeout=REACHING) == b"1")


def _client(address: str) -> Any:
    return _raylet().GcsClient(address=address)


def _raylet() -> Any:
    from ray import _raylet

    return _raylet


def _with_token(address: str) -> Any:
    os.environ[MODE] = "token"
    _raylet().Config.initialize("")
    loader = _raylet().AuthenticationTokenLoader.instance()
    loader.reset_cache()
    if not loader.has_token(ignore_auth_mode=True):
        raise _RefusedError(
            f"The Ray cluster at {address} requires a token, and there is none here: put it in ~/.ray/auth_token "
            "(mode 0600), or set RAY_AUTH_TOKEN_PATH to the file that holds it."
        )
    try:
        return _client(address)
    except Exception as error:
        if "InvalidAuthToken" not in str(error):
            raise
        source = next((name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)), None)
        raise _RefusedError(
            f"The Ray cluster at {address} rejects the token of {source or '~/.ray/auth_token'}: use the token that "
            "its nodes were started with."
        ) from None


def _name(info: Any) -> str:
    return f"{info.node_manager_hostname or info.node_name} ({info.node_manager_address})"


def _require_versions(address: str, there: dict[str, str]) -> None:
    import ray

    own = {"Ray": ray.__version__, "Python": ".".join(map(str, sys.version_info[:3]))}
    theirs = {"Ray": there["ray_version"], "Python": there["python_version"]}
    parts = 2 if os.environ.get(LEVEL) == "minor" else 3
    same = theirs["Python"].split(".")[:parts] == own["Python"].split(".")[:parts]
    if theirs["Ray"] == own["Ray"] and same:
        return
    raise _RefusedError(
        f"The Ray cluster at {address} runs Ray {theirs['Ray']} on Python {theirs['Python']}, but this command Ray "
        f"{own['Ray']} on Python {own['Python']}; both must be the same on every machine. Install the cluster's "
        "versions here, or these there."
    )


def main() -> None:
    """In the process of its own."""
    try:
        document = _examine(sys.argv[1])
    except _RefusedError as error:
        document = {"error": str(error)}
    print(json.dumps(document))


if __name__ == "__main__":
    main()
