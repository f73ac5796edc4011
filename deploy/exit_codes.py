"""Exit codes of commands and of the learner's process."""

FAILED = 1
"""The work could not be finished, or something was damaged and left out."""
MISUSED = 2
"""Arguments or files are wrong; nothing was done."""
NON_FINITE, DISK_FULL, REFUSED = 3, 4, 5
"""Of the learner's process: a restart would not help (non-finite loss, no disk space, impossible configuration)."""
INTERRUPTED = 130
"""A signal ended the command."""
