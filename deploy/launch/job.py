"""A run to be started somewhere, and what is known of it once it has been. Torch-free."""

import hashlib
import re
from dataclasses import dataclass

from deploy.wiring.config import RunConfig

NAME = r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?"
"""Names of jobs are run ids, and labels of Kubernetes, which appends up to 14 characters."""
_LONGEST = 48


@dataclass(frozen=True, kw_only=True)
class Job:
    """A `nexus train` of cluster mode."""

    name: str
    """The run id, unique among the jobs of a user: the last part of the run directory, in letters of a DNS label."""
    arguments: tuple[str, ...]
    """Of `nexus train`, TASK first; without --mode and --cluster.address, which the target knows."""
    config: RunConfig
    """What they ask for; its logdir is absolute, as the machine of the job sees it."""

    def command(self, *more: str) -> list[str]:
        """The whole command, with what the target adds."""
        return ["nexus", "train", *self.arguments, "--mode", "cluster", *more]


def job_name(text: str) -> str:
    """A name for a job out of any text; a long one is cut before its last part, such as a seed, where a digest stands
    for what is missing. ValueError if nothing of the text can be used."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not name:
        raise ValueError(f"{text!r} makes no name of a job; use letters a to z and digits.")
    if len(name) > _LONGEST:
        end = f"-{hashlib.sha256(name.encode()).hexdigest()[:6]}-{name.rpartition('-')[2][-12:]}"
        name = name[: _LONGEST - len(end)].rstrip("-") + end
    return name
