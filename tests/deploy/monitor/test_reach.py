"""Who reaches a monitor without a token: this machine by its loopback address, and nobody else."""

import http.client
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from deploy.cli import main
from tests.deploy.monitor.written_runs import served, write_run

ASK = """
import http.client, sys
line = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=60)
line.request("GET", "/api/runs", headers={"host": "127.0.0.1"})
print(line.getresponse().status)
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("reach")
    write_run(folder / "runs", "a", [1.0])
    with served(folder / "runs", home=folder) as address:
        yield urlsplit(address).port or 0


def other_addresses() -> list[str]:
    """IPv4 addresses of this machine but the loopback."""
    every = [one.address for of in psutil.net_if_addrs().values() for one in of if one.family == socket.AF_INET]
    return [one for one in every if not one.startswith("127.")]


def test_other_addresses_of_this_machine_do_not_answer(port: int) -> None:
    if not (addresses := other_addresses()):
        pytest.skip("this machine has no address but the loopback")
    for address in addresses:
        line = http.client.HTTPConnection(address, port, timeout=60)
        with pytest.raises(OSError):
            line.request("GET", "/api/runs", headers={"host": "127.0.0.1"})
        line.close()


def test_another_network_namespace_does_not_reach_it(port: int) -> None:
    apart = ["unshare", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True, timeout=20).returncode:
        pytest.skip("needs unshare and the right to make a network namespace")
    for address in ["127.0.0.1", *other_addresses()]:
        command = [*apart, sys.executable, "-c", ASK, address, str(port)]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=500)
        assert asked.returncode != 0 and "200" not in asked.stdout


def test_to_be_reached_from_elsewhere_takes_a_token(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "a", [1.0])
    (tmp_path / "token").write_text("")
    (tmp_path / "token").chmod(0o600)
    with pytest.raises(SystemExit) as left:
        main(["monitor", str(tmp_path / "runs"), "--host", "0.0.0.0", "--port", "0", "--token-file",
              str(tmp_path / "token")])  # fmt: skip
    assert left.value.code == 2
    with served(tmp_path / "runs", "--host", "0.0.0.0", home=tmp_path) as address:
        name = "x" * 12
        for host in ["127.0.0.1", *other_addresses()]:
            line = http.client.HTTPConnection(host, urlsplit(address).port, timeout=60)
            for method, path in (("GET", "/api/runs"), ("POST", f"/api/runs/{name}/control"),
                                 ("GET", f"/api/runs/{name}/videos/openloop-00000001.mp4")):  # fmt: skip
                line.request(method, path, "{}" if method == "POST" else None, {"content-type": "application/json"})
                answer = line.getresponse()
                assert (answer.status, answer.read()) == (401, b'{"error": "A token is needed."}')
            line.close()
