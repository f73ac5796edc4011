"""Which processes of a run take connections, and from where; and the table of deploy/README.md that says so."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from deploy.distributed.ray_cluster import loopback

TABLE = Path(__file__).parents[2] / "deploy" / "README.md"
NAMES = {
    r"^\S*/gcs_server ": "gcs_server", r"^\S*/raylet ": "raylet",
    r"^ray::DashboardAgent|ray/dashboard/agent\.py": "dashboard agent",
    r"^ray::RuntimeEnvAgent|runtime_env/agent/main\.py": "runtime environment agent",
    r"^ray::": "worker processes", r"ray/dashboard/dashboard\.py": "dashboard",
    r"ray\.util\.client\.server": "client server", r"autoscaler/_private/monitor\.py": "autoscaler monitor",
    r"deploy\.distributed\.learner_(process|group)": "learner", r"deploy\.cli train": "supervisor",
    r"deploy\.cli monitor": "nexus monitor", r"redis-server": "redis-server", r"^srun ": "srun",
}  # fmt: skip
"""What stands in a command line, and what the table calls the process; the first that is found counts."""


class Listener(NamedTuple):
    """A kind of process that takes connections, and from where."""

    process: str
    reach: str
    """`this machine`, or `network` if other machines reach it."""


def name_of(words: str) -> str:
    """What the table calls a process with this command line; the words themselves if it does not know it."""
    for part, name in NAMES.items():
        if re.search(part, words):
            return name
    return words


def listeners(processes: Iterable[psutil.Process]) -> set[Listener]:
    """What these processes listen on: TCP, and UDP without a peer."""
    found = set()
    for process in processes:
        with suppress(psutil.Error):  # it has just ended
            words = " ".join(process.cmdline()) or process.name()
            for one in process.net_connections("inet"):
                if one.status == psutil.CONN_LISTEN or one.status == psutil.CONN_NONE and not one.raddr:
                    reach = "this machine" if loopback(one.laddr.ip) else "network"
                    found.add(Listener(name_of(words), reach))
    return found


def table(run: str) -> dict[Listener, str]:
    """The rows of the table for a kind of run, with their protection."""
    rows = {}
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 4 and run in re.split(r",\s*", cells[0]):
            rows[Listener(cells[1], cells[2])] = cells[3]
    return rows
