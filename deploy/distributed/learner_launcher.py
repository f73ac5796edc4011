"""Starts the learner on its node of a cluster, as a process of its own that is free of Ray's actors, and holds it.

The learner's parent is this actor's process: when that is gone, the learner saves if it can and ends, as it does in
local mode without its supervisor. Torch-free.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.distributed.learner_program import LearnerProgram, start_learner

ABANDONED = 40.0  # seconds without a question after which the supervisor counts as gone; Ray needs 60
_OF_THE_ACTOR = ("OMP_NUM_THREADS", "RAY_JOB_ID", "RAY_ADDRESS")


class LearnerLauncher:
    """`remote.start` makes a Ray actor of it, bound to a node. Its methods may be called at the same time."""

    def __init__(self, environment: Mapping[str, str]):
        """`environment`: variables of the supervisor that the learner needs."""
        _spare_children()
        kept = {name: value for name, value in os.environ.items() if name not in _OF_THE_ACTOR}
        self._environment = kept | dict(environment)
        self._learner: LearnerProgram | None = None
        self._asked = time.monotonic()
        threading.Thread(target=self._watch, name="supervisor", daemon=True).start()

    def sees(self, path: str, token: str) -> bool:
        """Whether the file holds `token`; the answer is also written beside it."""
        try:
            if Path(path).read_text() != token:
                return False
            Path(f"{path}.answer").write_text(token[::-1])
        except OSError:
            return False
        return True

    def start(self, *arguments: str) -> int:
        """Start the learner; see `start_learner`. Returns its process id."""
        self._asked = time.monotonic()
        self._learner = start_learner(self._environment, *arguments)
        return self._learner.pid

    def poll(self) -> tuple[int | None, str]:
        """Its exit code, and that in words; None: it is running."""
        assert self._learner
        self._asked = time.monotonic()
        code = self._learner.poll()
        return code, "" if code is None else self._learner.ending()

    def send(self, number: int) -> None:
        """Send the learner a signal."""
        assert self._learner
        self._learner.send_signal(number)

    def _watch(self) -> None:
        """End the learner if nobody asks for it any more. A supervisor that is away takes this process with it, but
        only as long as the head of the cluster is there to notice."""
        while time.monotonic() - self._asked < ABANDONED or self._learner is None or self._learner.poll() is not None:
            time.sleep(1.0)
        self._learner.send_signal(signal.SIGTERM)


def _spare_children() -> None:
    """Keep Ray from killing the learner with this process: it has something to save."""
    from ray import _raylet

    raylet: Any = _raylet
    raylet.Config.initialize(json.dumps({"kill_child_processes_on_worker_exit": False}))
