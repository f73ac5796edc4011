"""Numbers the lives of a run's actors. Streams are named by them, so no number is ever reused. Torch-free."""

from pathlib import Path

from replay.files.whole_file import write_durably

FILE = "incarnation"


class Incarnations:
    """Counts each actor's lives, starting above the numbers of all streams of the run.

    The highest number is saved in the run's directory before it is used, so that none is reused even if the run is
    killed before its first checkpoint, or continues while a shard is down. `used` is the highest number known from
    elsewhere: from a checkpoint, or from stored streams.
    """

    def __init__(self, logdir: Path, used: int = -1):
        self._path = logdir / FILE
        self.last = max(used, self._read())
        self._first = self.last + 1
        self._given: dict[int, int] = {}

    def next(self, actor: int) -> int:
        """The number of a new life of `actor`. Raises OSError if it cannot be saved."""
        number = self._given.get(actor, self._first - 1) + 1
        if number > self.last:
            self._write(number)
        self.last = max(self.last, number)
        self._given[actor] = number
        return number

    def _read(self) -> int:
        if not self._path.exists():
            return -1
        try:
            text = self._path.read_text(errors="replace").strip()
        except OSError as error:
            raise ValueError(f"{self._path} cannot be read: {error.strerror}.") from error
        if not (text.isdecimal() and len(text) < 20):
            raise ValueError(
                f"{self._path} holds {text[:40]!r}, expected the number of the actors' newest life; write one "
                "that is higher than any before, such as 100000."
            )
        return int(text)

    def _write(self, number: int) -> None:
        write_durably(self._path, f"{number}\n".encode())
