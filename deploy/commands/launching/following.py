"""Following what a launched job prints."""

import sys

from deploy.exit_codes import FAILED, INTERRUPTED
from deploy.launch.target import Launched, Target


def follow(target: Target, job: Launched) -> int:
    """Print a job's output until it ends; returns the exit code. Ctrl-C ends this alone."""
    try:
        for piece in target.logs(job, follow=True):
            print(piece, end="", flush=True)
        state, why = target.state(job)
    except KeyboardInterrupt:
        print(f"\n{job.name} goes on. nexus logs {job.name} --follow; nexus stop {job.name}", file=sys.stderr)
        return INTERRUPTED
    print(f"{job.name}: {state}{why and f': {why}'}", file=sys.stderr)
    return 0 if state in ("ended", "stopped") else FAILED
