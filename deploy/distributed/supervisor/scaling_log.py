"""What changed the number of actors of a run. Torch-free."""

import json
import time
from pathlib import Path

from deploy.reports.metrics import drop_torn_line, read_lines

FILE = "scaling.jsonl"
AUTOSCALE, REQUEST = "autoscale", "request"


class ScalingLog:
    """One line in scaling.jsonl for every change, which no continuation cuts."""

    def __init__(self, logdir: Path):
        self.path = logdir / FILE
        self.counts = {"added": 0, "removed": 0}
        """Decisions of the autoscaler by their kind, in all lives of the run."""
        if self.path.exists():
            for line in read_lines(self.path, before=int, after=int, by=str):
                self._count(line["before"], line["after"], line["by"])
            drop_torn_line(self.path)

    def add(self, before: int, after: int, by: str, reason: str) -> None:
        """The number of actors changes from `before` to `after`; `by`: AUTOSCALE or REQUEST."""
        self._count(before, after, by)
        line = {"before": before, "after": after, "by": by, "reason": reason, "time": round(time.time(), 3)}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def metrics(self) -> dict[str, float]:
        """`fleet/added` and `fleet/removed`."""
        return {f"fleet/{kind}": count for kind, count in self.counts.items()}

    def _count(self, before: int, after: int, by: str) -> None:
        if by == AUTOSCALE and after != before:
            self.counts["added" if after > before else "removed"] += 1
