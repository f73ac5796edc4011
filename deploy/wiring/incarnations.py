"""Numbers for the lives of a run's actors, which name their streams: none is ever given twice. Torch-free."""

from pathlib import Path

from replay.files.whole_file import write_durably

FILE = "incarnation"


class Incarnations:
    """Counts each actor's lives from a number that no stream of the run has had.

    The highest number given lies in the run's directory before anybody uses it: neither a run that is killed before its
    first checkpoint nor a shard that is away when the run continues can bring one back. `used` is the highest one known
    from elsewhere: from a checkpoint, or from the streams that are stored already.
    """

    def __init__(self, logdir: Path, used: int = -1):
        self._path = logdir / FILE
        self.last = max(used, self._read())
        self._first = self.last + 1
        self._given: dict[int, int] = {}

    def next(self, actor: int) -> int:
        """The number of a new life of `actor`. OSError: it could not be written down."""
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
                f"{self._path} holds {text[:40]!r}, allowed is the number of the actors' newest life; write one "
                "that is higher than any before, such as 100000."
            )
        return int(text)

    def _write(self, number: int) -> None:
        write_durably(self._path, f"{number}\n".encode())
