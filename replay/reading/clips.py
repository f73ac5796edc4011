"""Draws clips of any length and stride from stored streams, also while a run writes and evicts. Legend: T frames of a
clip, s stride."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from threading import Lock

import numpy as np

from replay.reading.episodes import require_flags
from replay.reading.reader import Reader
from replay.step import Rows

_ATTEMPTS = 1000
_REFRESH = 10.0  # seconds until a replay in use is looked at again
_RETRY = 1.0  # the same, if steps could not be read
_MISSES = 8  # for one clip, until what is stored is looked at anew: it changes fast
_LONGEST = 600.0  # seconds between attempts to open a shard that is down


class NoClipError(ValueError):
    """No clip of the wanted length lies within an episode."""


class Clips:
    """Draws clips uniformly from the shards that `open` opens: T steps, `stride` apart, of one episode each.

    A clip has `keys` of these steps, `[T, ...]`, and of all steps from one to the next, `[T-1, s, ...]`, what is
    `leaving` a step, such as its action, or `arriving` with the one after, such as its reward. Only the keys that are
    named are kept. Draws depend only on the content and on the generator
    passed; a clip that crosses the end of an episode, was evicted meanwhile or is damaged is drawn again. `note` is
    told once of each thing that is damaged or missing. Methods may be called from any thread.

    ValueError: a key is not stored, steps have no flags, or the shards' keys differ. NoClipError: all streams are
    shorter than a clip.
    """

    def __init__(
        self, open: Callable[[], Sequence[Reader]], keys: Iterable[str], *, leaving: Iterable[str] = (),
        arriving: Iterable[str] = (), frames: int, stride: int = 1, note: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        if frames < 1 or stride < 1:
            raise ValueError(f"Clips need frames >= 1 and stride >= 1, got frames={frames}, stride={stride}.")
        self.keys, self.leaving, self.arriving = tuple(keys), tuple(leaving), tuple(arriving)
        self.frames, self.stride = frames, stride
        self.span = (frames - 1) * stride + 1
        self._lock, self._open = Lock(), open
        self._ends: defaultdict[int, set[int]] = defaultdict(set)  # known first steps of later episodes of each stream
        self._readers: list[Reader] = []
        self._shards = 0  # the most that were there
        self._note, self._told = note or (lambda line: None), set[str]()
        self._due = 0.0  # when to look again
        self._return, self._patience = 0.0, _REFRESH  # when to open again what was down, and the time between attempts
        try:
            self._reopen()
            self._look()
            if not len(self):
                lengths = [len(steps) for reader in self._readers for steps in reader.streams().values()]
                raise NoClipError(
                    f"A clip of {frames} frames, {stride} apart, spans {self.span} steps; the longest stream in "
                    f"{self.where} has {max(lengths, default=0)}. Ask for shorter clips."
                )
        except BaseException:
            self.close()
            raise

    @property
    def where(self) -> str:
        """The shards' names."""
        return ", ".join(reader.where for reader in self._readers)

    def __len__(self) -> int:
        """Number of steps at which a clip may start, ends of episodes aside."""
        return int(self._totals[-1])

    def draw(self, rng: np.random.Generator) -> Rows:
        """One clip. NoClipError: every clip tried crosses the end of an episode, or cannot be read any more."""
        crossed = missed = 0
        for _ in range(_ATTEMPTS):
            with self._lock:
                if missed == _MISSES:
                    self._due, missed = 0.0, 0
                self._refresh()
                reader, stream, first = self._at(int(rng.integers(max(1, len(self)))))
                if reader is None:
                    continue
                if not self._ends[stream].isdisjoint(range(first + 1, first + self.span)):
                    crossed += 1
                    continue
                rows = self._read(reader, stream, first)
            if rows is None:
                missed += 1
                continue
            ends = np.flatnonzero(rows["is_last"][:-1] | rows["is_first"][1:]) + 1
            if not len(ends):
                return self._clip(rows)
            crossed += 1
            self._ends[stream].update((first + ends).tolist())
        raise NoClipError(
            f"No clip of {self.frames} frames, {self.stride} apart ({self.span} steps), was found in {_ATTEMPTS} "
            f"attempts in {self.where}: {crossed} cross the end of an episode, the rest was evicted or is damaged. Ask "
            "for shorter clips."
        )

    def close(self) -> None:
        """Close the shards."""
        for reader in self._readers:
            reader.close()
        self._readers = []

    def _clip(self, rows: Rows) -> Rows:
        clip = {key: np.ascontiguousarray(rows[key][:: self.stride]) for key in self.keys}
        for keys, steps in ((self.leaving, slice(0, self.span - 1)), (self.arriving, slice(1, self.span))):
            for key in keys:
                value = np.ascontiguousarray(rows[key][steps])
                clip[key] = value.reshape(self.frames - 1, self.stride, *value.shape[1:])
        return clip

    def _read(self, reader: Reader, stream: int, first: int) -> Rows | None:
        """The steps of a clip; None if they are not there any more."""
        try:
            return reader.read(stream, first, self.span)
        except (ValueError, OSError):  # evicted or damaged; a file or a server is gone
            self._due = min(self._due, self._looked + _RETRY)
            return None

    def _at(self, place: int) -> tuple[Reader | None, int, int]:
        """Shard, stream and step of the start with this number."""
        if not len(self):
            return None, 0, 0
        i = int(np.searchsorted(self._totals, place, side="right")) - 1
        reader, stream, steps = self._starts[i]
        return reader, stream, steps.start + place - int(self._totals[i])

    def _refresh(self) -> None:
        if time.monotonic() < self._due:
            return
        try:
            for reader in self._readers:
                reader.refresh()
            if len(self._readers) < self._shards and time.monotonic() > self._return:
                self._patience = min(2 * self._patience, _LONGEST)  # each attempt waits for the one that is down
                self._reopen()
        except (ValueError, OSError):
            self._reopen()
        self._look()

    def _reopen(self) -> None:
        readers = list(self._open())
        self.close()
        self._readers, self._shards = readers, max(self._shards, len(readers))
        self._patience = self._patience if len(readers) < self._shards else _REFRESH
        self._return = time.monotonic() + self._patience
        schema = readers[0].schema
        require_flags(schema)
        for reader in readers:
            if unknown := sorted({*self.keys, *self.leaving, *self.arriving} - set(reader.schema.all)):
                raise ValueError(f"{reader.where} does not store {unknown}; it has {sorted(reader.schema.all)}.")
            if reader.schema.fields != schema.fields:
                raise ValueError(f"{reader.where} and {readers[0].where} have different keys; use one of them alone.")

    def _look(self) -> None:
        """Number the steps at which a clip may start."""
        self._looked = time.monotonic()
        self._due = self._looked + _REFRESH
        streams = ((reader, *one) for reader in self._readers for one in sorted(reader.streams().items()))
        self._starts = [(reader, stream, steps) for reader, stream, steps in streams if len(steps) >= self.span]
        self._totals = np.cumsum([0, *(len(steps) - self.span + 1 for _, _, steps in self._starts)])
        known = {f"{reader.where}: {loss}" for reader in self._readers for loss in reader.losses()}
        for line in sorted(known - self._told):
            self._note(line)
        self._told |= known
