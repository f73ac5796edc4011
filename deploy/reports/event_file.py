"""TensorBoard event files, written without torch; a run that continues from a checkpoint drops its later points."""

import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

PATTERN = "events.out.tfevents.*"
_HEADER_BYTES, _CHECKSUM_BYTES = 12, 4  # a record is: length uint64, its crc uint32, data, the data's crc uint32


class EventFile:
    """One session's scalars, in a new file: a running TensorBoard never sees a file shrink and grow again.

    With `restart_step` the file starts with a restart event, at which TensorBoard drops all points from that step on.
    """

    def __init__(self, logdir: Path, restart_step: int | None = None) -> None:
        now = time.time()
        index = len(list(logdir.glob(PATTERN)))
        stem = PATTERN.removesuffix("*")
        while (path := logdir / f"{stem}{int(now):010d}.{index:04d}.nexus").exists():
            index += 1
        self._records = RecordWriter(path.open("ab"))
        self._write(Event(wall_time=now, file_version="brain.Event:2"))
        if restart_step is not None:
            self._write(Event(wall_time=now, step=restart_step, session_log=SessionLog(status=SessionLog.START)))
        self._records.flush()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self._write(Event(wall_time=time.time(), step=step, summary=summary))
        self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())


def read_events(path: Path) -> Iterator[tuple[bytes, Event]]:
    """Complete records of an event file, raw and parsed; reading stops at the first torn or damaged one."""
    data = path.read_bytes()
    start = 0
    while start + _HEADER_BYTES <= len(data):
        (length,) = struct.unpack_from("<Q", data, start)
        end = start + _HEADER_BYTES + length + _CHECKSUM_BYTES
        if end > len(data):
            return
        try:
            event = Event.FromString(data[start + _HEADER_BYTES : end - _CHECKSUM_BYTES])
        except DecodeError:
            return
        yield data[start:end], event
        start = end
