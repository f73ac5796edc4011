"""Disk stores in directories of their own, which go with them."""

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

from replay.disk.disk_store import DiskStore
from replay.store import Store
from tests.session import SHARED_MEMORY, folder


def new_directory() -> Path:
    """An empty one, where syncing costs little; its maker removes it."""
    return Path(
        tempfile.mkdtemp(prefix=f"{folder().name}-disk-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)
    )


def disk_store(*, capacity: int | None = 1000, **settings: Any) -> Store:
    from tests.contracts.stores import SCHEMA

    settings = {"length": 4, "chunk_length": 7, "streams": 8, "keep_seconds": 1e-9, **settings}
    directory = new_directory()
    try:
        store = DiskStore(directory, SCHEMA, capacity=capacity, **settings)
    except BaseException:
        shutil.rmtree(directory)
        raise
    weakref.finalize(store, shutil.rmtree, directory, True)
    return store
