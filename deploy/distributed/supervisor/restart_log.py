"""How often the processes of a run were restarted. Torch-free."""

import json
import re
import time
from collections import Counter
from pathlib import Path

from deploy.reports.metrics import drop_torn_line, read_lines

FILE = "restarts.jsonl"


class RestartLog:
    """One line in restarts.jsonl for every restart, which no continuation cuts: the counts never fall."""

    def __init__(self, logdir: Path, processes: list[str]):
        """`processes`: those that may be restarted, counted from 0 on."""
        self.path = logdir / FILE
        self.counts = Counter(dict.fromkeys(processes, 0))
        """Restarts of each process, in all lives of the run."""
        if self.path.exists():
            self.counts.update(line["process"] for line in read_lines(self.path, process=str))
            drop_torn_line(self.path)

    def add(self, process: str, reason: str) -> None:
        """`process` has just been restarted since it ended for this `reason`."""
        self.counts[process] += 1
        line = {"process": process, "reason": reason, "time": round(time.time(), 3)}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def metrics(self) -> dict[str, float]:
        """`restarts/actor` and so on: all processes of a role together."""
        out: dict[str, float] = {}
        for process, count in self.counts.items():
            key = f"restarts/{re.sub(r'[ -][0-9]+$', '', process)}"
            out[key] = out.get(key, 0) + count
        return out
