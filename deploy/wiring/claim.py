"""One process at a time runs in a directory, and always with the same configuration."""

import errno
import fcntl
import os
import time
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from deploy.wiring.config_file import as_values, read_config, save_config
from world_models.checkpoint_files import RUN_CONFIG
from world_models.dataclass_json import differences

LOCK = ".lock"
"""A file of the run's directory that its process holds locked."""
_ATTEMPTS, _PAUSE = 5, 0.02  # seconds between them: whoever looks whether a run is active has the lock for a moment
_LOCKS: dict[Path, ExitStack] = {}


class Claim(NamedTuple):
    """A logdir that this process holds until it exits."""

    config: Any
    logdir: Path
    continues: bool
    """Whether a run has already begun there."""

    def confirm(self) -> None:
        """Tie the directory to this configuration, once the run is set up: a start that its stores refuse may be
        retried with another one. What a durable store has created by then keeps the schema of its steps."""
        save_config(self.config, self.logdir)


def claim(config: Any, logdir: Path, free: Collection[str]) -> Claim:
    """Lock `logdir` for this run; `free`: fields (or groups, ending in a dot) that may change when a run continues.

    Raises ValueError if it belongs to a run with another configuration (listing the differences), or if another process
    is running there.
    """
    logdir.mkdir(parents=True, exist_ok=True)
    with _lock(logdir) as held:
        continues = (logdir / RUN_CONFIG).exists()
        if continues:
            old = _plain(read_config(type(config), logdir))  # fields newer than the file get their defaults
            differ = {k: v for k, v in differences(old, _plain(config)).items() if not _is_free(k, free)}
            if differ:
                lines = "\n".join(f"  {key}: {a!r} there, {b!r} now" for key, (a, b) in differ.items())
                raise ValueError(
                    f"{logdir} belongs to a run with another configuration:\n{lines}\n"
                    "Use another --logdir, or the old values to continue that run."
                )
        _LOCKS[logdir] = held.pop_all()  # held until this process exits
    return Claim(config, logdir, continues)


def _is_free(field: str, free: Collection[str]) -> bool:
    return any(field == name or name.endswith(".") and field.startswith(name) for name in free)


def _lock(logdir: Path) -> ExitStack:
    """Locks `logdir` until closed. Raises ValueError if another process holds it."""
    path = logdir / LOCK
    try:
        file = path.open("a+", errors="replace")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be opened: {error.strerror}. Move it away, or use another --logdir."
        ) from error
    with ExitStack() as stack:
        stack.enter_context(file)
        for attempt in range(_ATTEMPTS):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                if attempt < _ATTEMPTS - 1:
                    time.sleep(_PAUSE)
                    continue
                file.seek(0)
                holder = file.read().strip() or "?"
                raise ValueError(
                    f"{logdir} is in use by process {holder}; stop it first, or use another --logdir."
                ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return stack.pop_all()


def _plain(config: Any) -> dict[str, Any]:
    return yaml.safe_load(yaml.safe_dump(as_values(config)))
