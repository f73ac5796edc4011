"""How old the published policies are. Free of torch."""

import time
from collections.abc import Collection

KEPT = 1000  # newest versions whose age is known


class Releases:
    """Remembers of each snapshot version its updates and when it was published."""

    def __init__(self, version: int, updates: int):
        self._of = {version: (updates, time.monotonic())}

    def add(self, version: int, updates: int) -> None:
        """`version`, of so many updates, has just been published."""
        self._of[version] = updates, time.monotonic()
        for old in sorted(self._of)[:-KEPT]:
            del self._of[old]

    def updates_behind(self, version: int, updates: int) -> int:
        """How many updates a policy is behind a learner at `updates`; one that is not known any more, as many as the
        oldest that is."""
        known = self._of[version] if version in self._of else min(self._of.values())
        return max(0, updates - known[0])

    def seconds_old(self, version: int) -> float:
        """Seconds since a policy was published; of one that is not known any more, since the oldest that is."""
        published = self._of[version][1] if version in self._of else min(at for _, at in self._of.values())
        return time.monotonic() - published

    def lag(self, versions: Collection[int], updates: int) -> tuple[float, float]:
        """Mean over the policies that act: updates behind a learner at `updates`, and seconds old."""
        count = max(1, len(versions))
        behind = sum(self.updates_behind(version, updates) for version in versions)
        return behind / count, sum(self.seconds_old(version) for version in versions) / count
