"""The time that a run has worked, from the times of its log's lines."""

import numpy as np

_SHORTEST_PAUSE = 60.0  # seconds
_UNUSUAL = 10.0  # times the usual step


def seconds_at_work(times: np.ndarray) -> np.ndarray:
    """Seconds of work until each line, of the times [P] at which lines were written, in seconds since 1970.

    A step to the next line that takes over a minute and ten times as long as usual is a pause between two lives of the
    run, and counts as a usual one; so does the time before the first line. A clock that is set back counts nothing.
    """
    if not len(times):
        return times
    steps = np.maximum(np.diff(times), 0)
    usual = float(np.median(steps)) if len(steps) else 0.0
    steps = np.where(steps > max(_UNUSUAL * usual, _SHORTEST_PAUSE), usual, steps)
    return np.concatenate([[usual], usual + np.cumsum(steps)])
