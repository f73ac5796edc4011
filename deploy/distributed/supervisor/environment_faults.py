"""What the supervisor does about environments that fail: it logs and counts them, and ends a run that has none left."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from actors.faults import KINDS
from deploy.distributed.messages import Failure, State
from deploy.run_failed import RunFailedError

FOLDER = "faults"
MOST = 1 << 22  # bytes of a file; then a new one is begun and one older one kept


class EnvironmentFaults:
    """Keeps the tracebacks in faults/environment-INDEX.log of the run's directory. `note`: writes to the run's log."""

    def __init__(self, logdir: Path, note: Callable[[str], None]):
        self.folder, self.note = logdir / FOLDER, note
        self._said: set[str] = set()
        self._quarantined: set[int] = set()

    def take(self, failures: Sequence[Failure], quarantined: Mapping[int, str]) -> None:
        """Record new failures. The first of each kind and every quarantined environment are noted."""
        for failure in failures:
            file = self._write(failure)
            if failure.kind not in self._said:
                self._said.add(failure.kind)
                self.note(
                    f"Environment {failure.environment} failed ({failure.kind}) and is made again: "
                    f"{failure.text.partition(chr(10))[0]} More is in {file}; further failures of this kind are only "
                    "counted."
                )
        for environment in sorted(quarantined.keys() - self._quarantined):
            self._quarantined.add(environment)
            self.note(
                f"Environment {environment} has failed too often in a row (actor.quarantine_after); the run goes on "
                f"without it: {quarantined[environment]}"
            )

    def require_some(self, state: State) -> None:
        """RunFailedError: every environment is quarantined."""
        if not state.quarantined:
            return
        used = {index for share in state.fleet.shares(state.actors) for index in share.indices}
        if used and used <= state.quarantined.keys():
            last = state.quarantined[list(state.quarantined)[-1]]
            raise RunFailedError(
                f"No environment is left: each has failed too often in a row. The last failure: {last}"
            )

    def _write(self, failure: Failure) -> str:
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"environment-{failure.environment}.log"
        if path.exists() and path.stat().st_size > MOST:
            path.replace(path.with_suffix(".older.log"))
        now = datetime.now().isoformat(timespec="seconds")
        with path.open("a") as file:
            file.write(f"{now} actor {failure.worker}, {failure.kind}: {failure.text}\n\n")
        return f"{FOLDER}/{path.name}"


def failure_counts(counters: Mapping[str, int]) -> dict[str, int]:
    """Failures of environments by kind, of a coordinator's counters."""
    return {kind: counters.get(f"failures/{kind}", 0) for kind in KINDS}
