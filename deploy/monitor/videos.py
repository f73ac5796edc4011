"""The pictures of a run's open-loop reports: which there are, and their bytes, in ranges as players ask for them."""

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.responses import Response

from deploy.monitor.questions import MissingError
from deploy.reports.open_loop_files import FPS, HELD, PICTURE

VIDEOS = "videos"
KINDS = {"mp4": "video/mp4", "png": "image/png"}
LARGEST = 64 << 20  # bytes of a file
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")


def pictures(logdir: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Names of the open-loop pictures, the newest first, with their updates; frames a second of the videos, for how
    many frames the last step is held at the end, and how many steps the model observes: half of a batch. `values`: the
    run's configuration by dotted names."""
    length = values.get("learner.batch_length")
    context = length // 2 if isinstance(length, int) and length > 1 else None
    found: list[dict[str, Any]] = []
    with suppress(OSError), os.scandir(logdir / VIDEOS) as entries:
        for entry in entries:
            if named := PICTURE.fullmatch(entry.name):
                with suppress(OSError):
                    there = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(there.st_mode) and there.st_size:
                        kind = "video" if named[2] == "mp4" else "picture"
                        found.append({"name": entry.name, "updates": int(named[1]), "kind": kind,
                                      "version": there.st_mtime_ns // 1_000_000})  # fmt: skip
    found.sort(key=lambda one: -one["updates"])
    return {"fps": FPS, "held": HELD, "context": context, "files": found}


def picture(logdir: Path, name: str, asked: Mapping[str, str]) -> Response:
    """One file, or the range that the headers `asked` name: MissingError: there is none of that name; links are not
    followed."""
    named = PICTURE.fullmatch(name)
    if not named:
        raise MissingError("There is no such video.")
    try:
        descriptor = os.open(logdir / VIDEOS / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise MissingError("There is no such video.") from error
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:
            raise MissingError("There is no such video.")
        size = about.st_size
        headers = {
            "accept-ranges": "bytes", "cache-control": "no-cache",
            "etag": f'"{about.st_mtime_ns:x}-{size:x}"',
        }  # fmt: skip
        kind = KINDS[named[2]]
        wanted = _RANGE.fullmatch(asked.get("range", "").replace(" ", ""))
        if not wanted or asked.get("if-range", headers["etag"]) != headers["etag"]:
            if asked.get("if-none-match") == headers["etag"]:
                return Response(status_code=304, headers=headers)
            return Response(os.pread(descriptor, LARGEST, 0), media_type=kind, headers=headers)
        first, last = int(wanted[1]), int(wanted[2] or size - 1)
        if first >= size or last < first:
            return Response(status_code=416, headers=headers | {"content-range": f"bytes */{size}"})
        data = os.pread(descriptor, min(last, size - 1) - first + 1, first)
        span = f"bytes {first}-{first + len(data) - 1}/{size}"
        return Response(data, 206, headers | {"content-range": span}, media_type=kind)
    finally:
        os.close(descriptor)
