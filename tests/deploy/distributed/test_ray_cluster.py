"""Where the processes of a local Ray can be reached."""

import socket

import pytest

from deploy.distributed.ray_cluster import listening, loopback
from tests.contracts import ray_stores

pytestmark = pytest.mark.timeout(100)


def test_ray_listens_for_this_machine_alone() -> None:
    ray_stores.actor()  # Ray is there, and a worker of it
    sockets = listening()
    names = {name for name, _, _ in sockets}
    assert {"gcs_server", "raylet"} <= names and len(sockets) >= 5, sockets
    assert not [one for one in sockets if not loopback(one[1])]


def test_addresses_that_other_machines_reach_are_told_apart() -> None:
    inside, outside = (
        ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"),
        ("0.0.0.0", "::", "10.0.0.5", "2001:db8::1"),
    )
    assert all(map(loopback, inside)) and not any(map(loopback, outside))
    own = socket.create_server(("0.0.0.0", 0))
    try:
        assert own.getsockname()[1] in [port for _, address, port in listening() if not loopback(address)]
    finally:
        own.close()
