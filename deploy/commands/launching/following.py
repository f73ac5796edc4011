"""Following what a launched job prints."""

import sys
import time

from deploy.exit_codes import FAILED, INTERRUPTED
from deploy.launch.target import OVER, Launched, Target

SETTLING, POLL = 10.0, 0.5  # seconds for a target to know that a job has ended, and between looks


def follow(target: Target, job: Launched) -> int:
    """Print a job's output until it ends; returns the exit code. Ctrl-C ends this alone."""
    try:
        for piece in target.logs(job, follow=True):
            print(piece, end="", flush=True)
        deadline = time.monotonic() + SETTLING
        while (answer := target.state(job))[0] not in OVER and time.monotonic() < deadline:
            time.sleep(POLL)
        state, why = answer
    except KeyboardInterrupt:
        print(f"\n{job.name} goes on. nexus logs {job.name} --follow; nexus stop {job.name}", file=sys.stderr)
        return INTERRUPTED
    print(f"{job.name}: {state}{why and f': {why}'}", file=sys.stderr)
    return 0 if state in ("ended", "stopped") else FAILED
