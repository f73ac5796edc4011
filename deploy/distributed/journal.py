"""What a run's processes have reported and the supervisor has not been told yet. Free of torch."""

from collections.abc import Mapping
from typing import Any

from actors.batch_environment import Episode
from deploy.distributed.messages import LearnerLog


class Journal:
    """Collects entries until they are taken."""

    def __init__(self) -> None:
        self.episodes: list[tuple[Episode, int]] = []
        self.logs: list[LearnerLog] = []
        self.evaluations: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.rewound: int | None = None

    def note(self, line: str) -> None:
        """Add a line for the run's log, unless it is there."""
        if line not in self.notes:
            self.notes.append(line)

    def evaluated(self, result: Mapping[str, Any]) -> None:
        """Add the scores of a policy."""
        self.evaluations.append(dict(result))

    def rewind(self, updates: int) -> None:
        """What came after update `updates` has not happened."""
        self.rewound = updates if self.rewound is None else min(updates, self.rewound)
        self.episodes = [(episode, min(then, updates)) for episode, then in self.episodes]
        self.logs = [line for line in self.logs if line.updates <= updates]
        self.evaluations = [result for result in self.evaluations if result["updates"] <= updates]

    def take(self) -> dict[str, Any]:
        """All entries, as fields of `News`; they are told only once."""
        entries = dict(vars(self))
        vars(self).update(vars(Journal()))
        return entries
