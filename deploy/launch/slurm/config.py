"""What jobs ask Slurm for."""

import re
from dataclasses import dataclass, fields

OURS = (
    "job-name", "array", "chdir", "output", "error", "open-mode", "requeue", "no-requeue", "signal", "ntasks",
    "ntasks-per-node", "export", "wrap", "parsable", "hold",
)  # fmt: skip
"""Options of sbatch that the script sets, or that would change what it does."""
_FORMS = {
    "partition": (r"[\w.,-]+", "a name, or names separated by commas, as sinfo lists them"),
    "account": (r"[\w.-]+", "a name"),
    "qos": (r"[\w.-]+", "a name"),
    "time": (r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d){0,2}", "MINUTES, H:MM:SS or DAYS-HOURS, e.g. 12:00:00"),
    "mem": (r"\d+[KMGT]?", "a size, e.g. 32G"),
    "gpus_per_node": (r"([\w.-]+:)?\d+", "a number, or TYPE:NUMBER, e.g. a100:1"),
    "gres": (r"[\w.:,-]+", "of the form NAME:NUMBER, e.g. gpu:1"),
    "constraint": (r"[\w.,&|*()\[\]-]+", "features of nodes, e.g. a100 or a100|h100"),
}
LEAST_SIGNAL = 30  # seconds


@dataclass(frozen=True, kw_only=True)
class SlurmConfig:
    """What each job asks Slurm for; what is empty is left to the site's defaults."""

    partition: str = ""
    """Partition to run in."""
    account: str = ""
    """Account to charge."""
    qos: str = ""
    """Quality of service."""
    time: str = ""
    """Time limit, e.g. 12:00:00. A run that needs longer saves before it, is requeued and continues."""
    nodes: int = 1
    """Nodes of each job, all alike. The first has the learner."""
    cpus_per_task: int = 0
    """CPUs on each node; 0: as many as the run's processes reserve."""
    mem: str = ""
    """Memory on each node, e.g. 32G."""
    gpus_per_node: str = ""
    """GPUs on each node, e.g. 1 or a100:1. The learner uses one for each of its processes."""
    gres: str = ""
    """The same as a generic resource, e.g. gpu:1, where the site wants that."""
    constraint: str = ""
    """Features that the nodes must have."""
    signal_seconds: int = 120
    """Seconds before the time limit at which the run is told to save. Slurm does so before a preemption too if the site
    has set PreemptParameters=send_user_signal."""
    at_once: int = 0
    """At most so many jobs of a sweep run at the same time; 0: no limit."""
    sbatch: tuple[str, ...] = ()
    """Further options of sbatch without their dashes, e.g. reservation=lab exclusive."""
    setup: tuple[str, ...] = ()
    """Lines of bash that a job runs first, e.g. "module load cuda"."""

    def __post_init__(self) -> None:
        for name, (form, said) in _FORMS.items():
            value = getattr(self, name)
            if value and not re.fullmatch(form, value, re.ASCII):
                raise ValueError(f"slurm.{name}={value!r} must be {said}.")
        for name, least in (("nodes", 1), ("cpus_per_task", 0), ("at_once", 0), ("signal_seconds", LEAST_SIGNAL)):
            if getattr(self, name) < least:
                raise ValueError(f"slurm.{name}={getattr(self, name)} must be at least {least}.")
        if self.gpus_per_node and self.gres:
            raise ValueError(
                f"slurm.gpus_per_node={self.gpus_per_node} and slurm.gres={self.gres} both ask for GPUs; give one."
            )
        if self.time and seconds(self.time) <= 2 * self.signal_seconds:
            raise ValueError(
                f"slurm.time={self.time} leaves a job no time to train: it has to save {self.signal_seconds} s "
                "(slurm.signal_seconds) before its end. Raise slurm.time."
            )
        own = {field.name.replace("_", "-"): field.name for field in fields(self)}
        for option in self.sbatch:
            name = option.partition("=")[0]
            if not re.fullmatch(r"[a-z][a-z-]*(=\S(.*\S)?)?", option):
                raise ValueError(f"slurm.sbatch: {option!r} is not of the form NAME=VALUE, e.g. reservation=lab.")
            if name in OURS:
                raise ValueError(f"slurm.sbatch: {name} is set by nexus launch; leave it out.")
            if name in own:
                raise ValueError(f"slurm.sbatch: {name} has an option of its own, --slurm.{name}.")
        for line in self.setup:
            if "\n" in line or "\0" in line:
                raise ValueError(f"slurm.setup: {line!r} is more than one line; give each as a value of its own.")

    def options(self) -> dict[str, str]:
        """Those of sbatch that say the same."""
        given = {
            name: getattr(self, name)
            for name in ("partition", "account", "qos", "time", "mem", "gpus_per_node", "gres", "constraint")
        }
        return {name.replace("_", "-"): value for name, value in given.items() if value}


def seconds(time: str) -> int:
    """A time limit as sbatch reads it."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:  # DAYS-HOURS[:MINUTES[:SECONDS]]
        parts += [0] * (3 - len(parts))
    elif len(parts) < 3:  # MINUTES[:SECONDS]
        parts = [0, *parts, *[0] * (2 - len(parts))]
    return int(days or 0) * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2]
