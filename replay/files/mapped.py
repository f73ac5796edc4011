"""Read-only file mappings that keep no descriptor open: thousands of them fit under any limit on open files."""

import ctypes
import mmap
import os
import weakref

import numpy as np

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FAILED = ctypes.c_void_p(-1).value


def map_file(descriptor: int, nbytes: int) -> np.ndarray:
    """The first `nbytes` of a file as uint8 `[nbytes]`, mapped until the last view of them is gone.

    ValueError: the file is shorter, so that touching its missing pages would kill the process (SIGBUS).
    """
    size = os.fstat(descriptor).st_size
    if size < nbytes:
        raise ValueError(f"the file has {size} bytes, expected {nbytes}")
    address = _libc.mmap(None, nbytes, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == _FAILED:
        raise OSError(ctypes.get_errno(), f"cannot map {nbytes} bytes: {os.strerror(ctypes.get_errno())}")
    memory = (ctypes.c_ubyte * nbytes).from_address(address)
    weakref.finalize(memory, _libc.munmap, address, nbytes).atexit = False
    array = np.frombuffer(memoryview(memory), np.uint8)
    array.flags.writeable = False
    return array
