"""What the C library does with memory that tensors give back."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next allocation, where it would return large blocks to the system.

    An update allocates the same large tensors as the one before it, and each page that comes anew from the system costs
    a fault: a tenth of an update on a CPU. The process then stays as large as it has been at its peak, so this is for
    processes that do little but learn. Does nothing with other C libraries.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, -1)
        mallopt(_MMAP_MAX, 0)
