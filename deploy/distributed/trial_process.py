"""`nexus train` for a trial of a sweep: `python -m deploy.distributed.trial_process PARENT train TASK ...`.

The same command in every way, but it does not outlive the process PARENT: it then saves and ends, as at SIGTERM.
"""

import os
import runpy
import signal
import sys
import threading
import time

from deploy.exit_codes import FAILED

SAVING = 60.0  # seconds to save and exit once the parent is gone


def main() -> None:
    """In the process of the run."""
    parent = int(sys.argv.pop(1))
    threading.Thread(target=_do_not_outlive, args=(parent,), name="parent", daemon=True).start()
    sys.argv[0] = "nexus"
    runpy.run_module("deploy.cli", run_name="__main__")


def _do_not_outlive(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SAVING)
    os._exit(FAILED)


if __name__ == "__main__":
    main()
