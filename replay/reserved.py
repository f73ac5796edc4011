"""Arrays whose memory is reserved at once and committed by the kernel page by page when written."""

import contextlib
import mmap

import numpy as np

_NORESERVE = 0x4000  # MAP_NORESERVE on Linux; Python's mmap does not name it
_LARGE = 16 << 20  # bytes above which huge pages waste little memory and save most faults and look-ups


def reserve(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A zero array that takes memory only where it has been written, so it never has to move in order to grow."""
    nbytes = max(1, dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
    buffer = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
    if nbytes >= _LARGE:
        with contextlib.suppress(OSError):  # a kernel without huge pages
            buffer.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(buffer, dtype, count=int(np.prod(shape, dtype=np.int64))).reshape(shape)
