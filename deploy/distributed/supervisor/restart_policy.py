"""How often a process may fail in a row, when it may start again, and when it counts as hung."""

import time
from dataclasses import dataclass

from deploy.run_failed import RunFailedError

SILENCE = 180.0  # seconds after which a mute process counts as hung
START = 300.0  # the same for one that has never been heard of
RESTARTS = 5  # in a row without progress between them


@dataclass(kw_only=True)
class RestartPolicy:
    """How often something failed in a row, and when it may start again."""

    failures: int = 0
    reason: str = ""
    started: float = 0.0
    retry_at: float = 0.0
    silence: float = SILENCE

    def begin(self) -> None:
        self.started = time.monotonic()

    def worked(self) -> None:
        self.failures, self.reason = 0, ""

    def failed(self, name: str, reason: str, hopeless: bool = False) -> None:
        """Count one failure; RunFailedError where another start would not help."""
        self.failures += 1
        if hopeless:
            raise RunFailedError(f"{name} failed: {reason}")
        if self.failures > RESTARTS:
            raise RunFailedError(f"{name} failed {self.failures} times in a row; the last time: {reason}")
        self.reason = reason
        self.retry_at = time.monotonic() + (0 if self.failures == 1 else min(30.0, 2.0**self.failures))

    @property
    def alive(self) -> float:
        """Seconds since the last start."""
        return time.monotonic() - self.started

    def hung(self, silent: float | None) -> bool:
        """`silent`: seconds since the last sign of life, None before the first."""
        return self.alive > START if silent is None else silent > self.silence
