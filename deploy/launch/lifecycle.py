"""What targets do alike when a job is given to them, and when it is to end. Torch-free."""

import time
from collections.abc import Callable

from deploy.launch.target import OVER, Launched, State, Target
from deploy.run_failed import RunFailedError


def require_over(name: str, state: State) -> None:
    """ValueError: the job of this name, in this state, has not ended, so that it cannot be started again."""
    if state not in OVER:
        raise ValueError(f"The job {name} is {state} already; `nexus stop {name}` ends it.")


def over_before(target: Target, job: Launched) -> str:
    """What to say of a job that is over already; nothing if it is to be stopped. RunFailedError: its target does not
    know it, or does not answer."""
    state, why = target.state(job)
    if state in ("gone", "unreachable"):
        raise RunFailedError(f"{job.name} cannot be stopped: {why}.")
    return f"{job.name} had {'ended' if state == 'ended' else state} before" if state in OVER else ""


def await_end(
    target: Target, job: Launched, timeout: float, poll: float, ask: Callable[[State], None] = lambda state: None
) -> None:
    """Wait until a job is over, and look every `poll` seconds; `ask`, which has it end, is told each state until then.
    RunFailedError: it takes longer than `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (now := target.state(job)[0]) not in OVER:
        ask(now)
        if time.monotonic() > deadline:
            raise RunFailedError(f"{job.name} has not ended within {timeout:g} s; it is {now}.")
        time.sleep(poll)
