"""Archives of arrays (.npz): verified by their checksums, never with pickled objects."""

import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

_DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,
    UnicodeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)  # what zipfile raises if bytes of an archive have changed: some turn on encryption, or another compression


def write_npz(file: Path, arrays: Mapping[str, np.ndarray], level: int = 6) -> None:
    """Like `np.savez_compressed`, but for any key names and memory layouts. `level`: 1 is fast, 9 small."""
    with zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for key, value in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(value), allow_pickle=False)


class DamagedFileError(ValueError):
    """A file is missing, truncated, or differs from what was written."""


def read_npz(file: Path, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays of a .npz file (or only those of `keys` that it has), verified by the archive's checksums.

    Raises DamagedFileError if it is damaged, ValueError if it holds anything but arrays, or pickled objects.
    """
    what, content = f"{file} cannot be read as .npz episodes", {}
    try:
        if not zipfile.is_zipfile(file):
            raise DamagedFileError(f"{what}: not an .npz archive" if file.is_file() else f"{what}: there is no file")
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                key = name.removesuffix(".npy")
                if keys is None or key in keys:
                    content[key] = archive.read(name)
    except _DAMAGE as error:
        raise DamagedFileError(f"{what}: {error}") from error
    try:
        return {key: np.lib.format.read_array(BytesIO(raw), allow_pickle=False) for key, raw in content.items()}
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
