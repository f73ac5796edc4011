"""Containers without an engine: services of docker-compose.yml in namespaces of their own, over this machine's files.

A network namespace holds the bridge of their private network. Each service has a layer over the root directory, which
is thrown away, its own processes and, unless it shares that of another, its own network; it runs as the user that the
file names, with its secrets, its volumes and its environment. Limits, capabilities and images are not imitated.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.replay.redis.redis_servers import EXECUTABLE

STARTED = 300.0  # seconds for a service to be healthy
ROOT = Path(__file__).parents[2]
NETWORK = "10.213.77"
PROGRAMS = ("ip", "unshare", "nsenter", "setpriv", "mount", "chroot")


class Containers:
    """The services of a project, as `docker compose config --format json` shows it; ends them with the context."""

    def __init__(self, project: dict[str, Any], folder: Path, replicas: dict[str, int]):
        """`replicas`: names of all that are to run, with how many of each; of a service with one, its own name is that
        of the container."""
        if os.getuid() or not all(map(shutil.which, PROGRAMS)):
            pytest.skip("this needs root, for namespaces and a layer over this machine's files")
        self.services, self.secrets = project["services"], project["secrets"]
        self.folder, self.mark = folder, f"nx{os.getpid() % 10000}"
        self.names = [
            (f"{name}-{number + 1}" if count > 1 else name, name) for name, count in replicas.items()
            for number in range(count)
        ]  # fmt: skip
        self.address = {name: f"{NETWORK}.{10 + place}" for place, (name, _) in enumerate(self.names)}
        self._stack, self._running = ExitStack(), dict[str, subprocess.Popen[bytes]]()

    def __enter__(self) -> "Containers":
        try:
            self._make_network()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self._running)):
            self.stop(name)
        self._stack.close()

    def start(self, name: str, wait: bool = True) -> None:
        """Start a container; with `wait`, until its check of health succeeds."""
        for part in ("upper", "work", "root"):
            (self.folder / name / part).mkdir(parents=True, exist_ok=True)
        self._launch(name)
        test = self._service(name).get("healthcheck", {}).get("test")
        deadline = time.monotonic() + STARTED
        while wait and test:
            command = ["sh", "-c", test[1]] if test[0] == "CMD-SHELL" else test[1:]
            if self.run(name, *[word.replace("$$", "$") for word in command]).returncode == 0:
                return
            assert time.monotonic() < deadline, f"{name} is not healthy: {self.log(name)}"
            self.restart()
            time.sleep(1)

    def restart(self) -> None:
        """Start those that have ended again, as `restart` says; a node of Ray may be too slow on a busy machine."""
        for name, process in list(self._running.items()):
            if process.poll() not in (None, 0) and self._service(name).get("restart") in (
                "unless-stopped",
                "on-failure",
            ):
                self._launch(name)

    def _launch(self, name: str) -> None:
        place = self.folder / name
        script = "\n".join(self._script(name, self._service(name), place))
        with (place / "log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                ["ip", "netns", "exec", self._network_of(name), "unshare", "--mount", "--pid", "--fork", "--kill-child",
                 "sh", "-ec", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def run(self, name: str, *command: str, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
        """As `docker compose exec`."""
        inside = subprocess.run(
            ["pgrep", "--parent", str(self._running[name].pid)], capture_output=True, text=True, timeout=10
        ).stdout.split()
        if not inside:
            return subprocess.CompletedProcess(command, 1, "", "not started")
        enter = ["nsenter", "--target", inside[0], "--mount", "--net", "--pid", "--root", "--wd"]
        words = [*enter, *self._confined(self._service(name)), *command]
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)

    def stop(self, name: str, timeout: float = 300.0) -> int:
        """As `docker compose stop`; the exit code of the container's command."""
        process = self._running.pop(name)
        inside = subprocess.run(
            ["pgrep", "--parent", str(process.pid)], capture_output=True, text=True, timeout=10
        ).stdout.split()
        for pid in inside:
            os.kill(int(pid), signal.SIGTERM)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(300)

    def ended(self, name: str, timeout: float = 200.0) -> int:
        """The exit code of a container that ends by itself."""
        return self._running.pop(name).wait(timeout)

    def log(self, name: str) -> str:
        return (self.folder / name / "log").read_text(errors="replace")[-6000:]

    def _service(self, name: str) -> dict[str, Any]:
        return dict(self.services[dict(self.names)[name]])

    def _network_of(self, name: str) -> str:
        shared = self._service(name).get("network_mode", "").removeprefix("service:")
        return f"{self.mark}-{list(self.address).index(shared or name)}"

    def _make_network(self) -> None:
        bridge = f"{self.mark}-b"
        self._add(bridge)
        _ip("-n", bridge, "link", "add", "br0", "type", "bridge")
        _ip("-n", bridge, "addr", "add", f"{NETWORK}.1/24", "dev", "br0")
        _ip("-n", bridge, "link", "set", "br0", "up")
        for number, (name, address) in enumerate(self.address.items()):
            if self._service(name).get("network_mode"):
                continue
            own = f"{self.mark}-{number}"
            self._add(own)
            _ip("-n", own, "link", "add", "eth0", "type", "veth", "peer", "name", f"v{number}", "netns", bridge)
            _ip("-n", bridge, "link", "set", f"v{number}", "master", "br0", "up")
            _ip("-n", own, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", own, "link", "set", device, "up")
            _ip("-n", own, "route", "add", "default", "via", f"{NETWORK}.1")  # Ray asks for it to find its address
        names = [f"{self.address[name]} {name} {service}" for name, service in self.names
                 if not self.services[service].get("network_mode")]  # fmt: skip
        (self.folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # refuses at once what the hosts do not have
        (self.folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names, ""]))

    def _add(self, name: str) -> None:
        _ip("netns", "add", name)
        self._stack.callback(_ip, "netns", "delete", name)

    def _script(self, name: str, service: dict[str, Any], place: Path) -> list[str]:
        root, user = place / "root", service.get("user", "1000:1000").split(":")[0]
        lines = [
            f"mount -t overlay overlay -o lowerdir=/,upperdir={place}/upper,workdir={place}/work {root}",
            f"mount -t proc proc {root}/proc; mount --rbind /dev {root}/dev",
            f"mount -t tmpfs -o mode=1777 shm {root}/dev/shm",
            f"mount --bind {self.folder}/hosts {root}/etc/hosts",
            f"mount --bind {self.folder}/resolv.conf {root}/etc/resolv.conf",
            f"mkdir -p {root}/tmp/ray; mount -t tmpfs -o mode=1777 ray {root}/tmp/ray; chmod o+x {root}/root",
            f"mkdir -p {root}/run/secrets {root}/home/nexus {root}/etc/nexus/redis {root}/usr/local/bin",
            f"chown {user} {root}/home/nexus",
            f"cp {ROOT}/deploy/redis/* {root}/etc/nexus/redis",
            f"ln -sf {EXECUTABLE} {root}/usr/local/bin/redis-server",
        ]
        for secret in service.get("secrets", ()):
            target = f"{root}{secret['target']}"
            lines.append(f"touch {target}; mount --bind {self.secrets[secret['source']]['file']} {target}")
        for volume in service.get("volumes", ()):
            source = self.folder / "volumes" / volume["source"]
            if volume["type"] == "volume":
                lines.append(f"mkdir -p {source}; chmod 1777 {source}; mkdir -p {root}{volume['target']}")
                lines.append(f"mount --bind {source} {root}{volume['target']}")
        command = service.get("command") or ["sh", "/etc/nexus/redis/start.sh"]
        words = [word.replace("$$", "$") for word in [*(service.get("entrypoint") or []), *command]]
        lines.append("exec " + shlex.join(["chroot", str(root), *self._confined(service), *words]))
        return lines

    def _confined(self, service: dict[str, Any]) -> list[str]:
        user, _, group = service.get("user", "1000:1000").partition(":")
        scripts = f"{Path(sys.executable).parent}:{Path(ray.__file__).parents[4] / 'bin'}"
        given = {
            "PATH": f"{scripts}:/usr/local/bin:/usr/bin:/bin", "HOME": "/home/nexus", "USER": "nexus",
            **{key: str(value) for key, value in (service.get("environment") or {}).items()},
        }  # fmt: skip
        where = "/data" if any(one["target"] == "/data" for one in service.get("volumes", ())) else "/home/nexus"
        words = ["env", "-i", "-C", where, *(f"{key}={value}" for key, value in given.items())]
        return ["setpriv", f"--reuid={user}", f"--regid={group or user}", "--clear-groups", "--no-new-privs", *words]


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
