"""How jobs are started on a Ray cluster."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

ADDRESS = "RAY_API_SERVER_ADDRESS"
"""Ray's own variable for the address."""


@dataclass(frozen=True, kw_only=True)
class RayJobsConfig:
    """How a job is started on a Ray cluster."""

    python: str = ""
    """Interpreter of the environment with Nexus, on the node of the job; empty for the path of this command's own, or
    `python3` where that is not there."""
    num_cpus: float = 0.0
    """CPUs that a job reserves for its supervisor, beside those of its workers; a job without any reservation runs on
    the head."""
    num_gpus: float = 0.0
    """GPUs that a job reserves for its supervisor, which needs none."""
    resources: tuple[str, ...] = ()
    """Custom resources that it reserves, each as NAME=AMOUNT."""
    labels: tuple[str, ...] = ()
    """Labels of the node that it runs on, each as KEY=VALUE."""

    def __post_init__(self) -> None:
        if not (0 <= self.num_cpus < math.inf and 0 <= self.num_gpus < math.inf):
            raise ValueError(
                f"num_cpus={self.num_cpus:g} and num_gpus={self.num_gpus:g} must be at least 0, and finite."
            )
        for amount in pairs(self.resources, "resources", "NAME=AMOUNT").values():
            try:
                good = 0 < float(amount) < math.inf
            except ValueError:
                good = False
            if not good:
                raise ValueError(f"resources: the amount {amount!r} must be a number above 0.")
        pairs(self.labels, "labels", "KEY=VALUE")


def pairs(given: Sequence[str], name: str, form: str) -> dict[str, str]:
    """NAME=VALUE options as a dictionary. ValueError: one of them is not of this form."""
    found = {}
    for one in given:
        key, _, found[key] = one.partition("=")
        if not (key and found[key]):
            raise ValueError(f"{name}: {one!r} is not of the form {form}.")
    return found


def address_of(given: str) -> str:
    """The address of a job server, from a command line or Ray's variable. ValueError: it is missing or malformed."""
    address = (given or os.environ.get(ADDRESS, "")).rstrip("/")
    if not address:
        raise ValueError(
            f"The address of Ray's job server is missing: give --address http://HEAD:8265, or set {ADDRESS}. It is "
            "that of the dashboard, as `ray start --head` prints it."
        )
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or parts.username or parts.path or parts.query:
        raise ValueError(f"The address {address!r} is not of the form http://HOST:PORT, such as http://10.0.0.5:8265.")
    return address
