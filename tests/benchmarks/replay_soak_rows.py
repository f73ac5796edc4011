"""What the soak stores: steps every byte of which follows from where they come from, and the check of what comes back.

An environment numbers its steps on and on, whatever streams they go into, and each life of the process that runs it
stamps them. A step's latents carry the number of the write-back that made them; the first ones are from the actor.
"""

from typing import NamedTuple

import numpy as np

from replay.keys import sequences, stream_id
from replay.step import Field, Rows, Schema

LENGTH = 16  # steps of a sequence
ACTORS = 1  # the latents an actor has stored are of "write-back" 1
SCHEMA = Schema(
    fields={key: Field(dtype=np.dtype(np.int64)) for key in ("origin", "number", "life")}
    | {"pixels": Field(dtype=np.dtype(np.uint8), shape=(31, 32))},
    latents={
        "made": Field(dtype=np.dtype(np.int64)),
        "deter": Field(dtype=np.dtype(np.float16), shape=(256,)),
        "stoch": Field(dtype=np.dtype(np.int8), shape=(32,)),
    },
)
_ORIGIN = ~stream_id(0, (1 << 24) - 1, 0)  # of a stream: all but the incarnation


class TornError(Exception):
    """A sequence that is not whole, or bytes that nobody wrote there."""


class Tally(NamedTuple):
    """Of checked batches; `older`: latents that were replaced before the server was restarted."""

    sequences: int = 0
    stale: int = 0
    older: int = 0
    written: int = 0  # latents written back

    def plus(self, other: "Tally") -> "Tally":
        return Tally(*(a + b for a, b in zip(self, other, strict=True)))


class Environments:
    """`count` environments of one actor, in one life of its process."""

    def __init__(self, actor: int, count: int, life: int) -> None:
        self.origins = np.array([stream_id(actor, 0, slot) for slot in range(count)])
        self.numbers = np.zeros(count, np.int64)
        self._life = life

    def step(self) -> Rows:
        """The next row of each, `[count ...]`."""
        made = rows(self.origins, self.numbers, np.full_like(self.numbers, self._life))
        made |= latents(self.origins, self.numbers, np.full_like(self.numbers, ACTORS))
        self.numbers = self.numbers + 1
        return made


class Checker:
    """Remembers what one sampler has seen and written, so that nothing may change in between."""

    def __init__(self) -> None:
        self._offset: dict[int, int] = {}  # number minus step, the same in all of a stream
        self._made: dict[int, np.ndarray] = {}  # by stream, for each step: the write-back that was acknowledged
        self._since = 0
        self._servers: object = None

    def rows(self, got: Rows, keys: np.ndarray) -> None:
        """TornError: rows `[n T ...]` with keys `[n T 2]` are not whole sequences as they were written."""
        try:
            where = sequences(keys)
        except ValueError as error:
            raise TornError(str(error)) from error
        expected = rows(keys[..., 0] & _ORIGIN, got["number"], got["life"])
        _compare(expected, got, keys)
        offsets = got["number"] - keys[..., 1]
        for (stream, first), of_one in zip(where, offsets, strict=True):
            known = self._offset.setdefault(stream, int(of_one[0]))
            if not (of_one == known).all():
                raise TornError(
                    f"Stream {stream} from step {first} on: steps moved by {set((of_one - known).tolist())}."
                )

    def batch(self, got: Rows, keys: np.ndarray, servers: object = None) -> Tally:
        """A sampled batch; `servers` is something else after a restart that may cost latents. TornError."""
        self.rows(got, keys)
        first = {key: got[key][:, 0] for key in ("origin", "number")}
        stale = self.latents({key: got[key] for key in SCHEMA.latents}, first["origin"], first["number"], keys[:, 0])
        if servers != self._servers:
            self._servers, self._since = servers, 1 << 62
        older = 0
        for made, (stream, step) in zip(got["made"].tolist(), keys[:, 0].tolist(), strict=True):
            known = self._made.get(stream)
            if known is None or step >= len(known) or not 0 < made < known[step]:
                continue
            if known[step] >= self._since:
                raise TornError(f"Stream {stream}, step {step}: latents {made}, {known[step]} were stored before.")
            older += 1
        return Tally(len(keys), int(stale.sum()), older)

    def latents(self, got: Rows, origin: np.ndarray, number: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Which of latents `[n ...]` are stale, bool `[n]`; TornError: of none and of more than one writing."""
        stale = np.ones(len(keys), bool)
        for value in got.values():
            stale &= ~_bytes(value, keys).any(-1)
        if not stale.all():
            fresh = ~stale
            _compare(
                latents(origin[fresh], number[fresh], got["made"][fresh]),
                {key: value[fresh] for key, value in got.items()},
                keys[fresh],
            )
        return stale

    def written(self, keys: np.ndarray, made: int, all_of_them: bool) -> None:
        """The store has acknowledged latents; not all of them: nothing is known of these."""
        if self._since > made:
            self._since = made
        for stream, first in keys[:, 0].tolist():
            known = self._made.setdefault(stream, np.zeros(1024, np.int64))
            stop = first + keys.shape[1]
            if stop > len(known):
                self._made[stream] = known = np.pad(known, (0, stop))
            known[first:stop] = made if all_of_them else 0


def rows(origin: np.ndarray, number: np.ndarray, life: np.ndarray) -> Rows:
    """Fields `[...]` of the steps of these numbers."""
    seed = _mixed(origin, number, life)
    return {"origin": origin, "number": number, "life": life, "pixels": _filled(seed, SCHEMA.fields["pixels"])}


def latents(origin: np.ndarray, number: np.ndarray, made: np.ndarray) -> Rows:
    """Latents `[...]` of these steps and of these write-backs."""
    seed = _mixed(origin, number, made, np.full_like(made, -1))
    return {"made": made} | {key: _filled(seed, SCHEMA.latents[key]) for key in ("deter", "stoch")}


def _mixed(*parts: np.ndarray) -> np.ndarray:
    """uint64 `[...]`, each bit of which depends on all parts: splitmix64."""
    mixed = np.zeros(parts[0].shape, np.uint64)
    for part in parts:
        mixed = (mixed ^ part.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


_FACTORS = _mixed(np.arange(128)) | np.uint64(1)


def _filled(seed: np.ndarray, field: Field) -> np.ndarray:
    """A field `[... *shape]` whose 8 bytes at each place follow from the seed `[...]`."""
    words = seed[..., None] * _FACTORS[: field.nbytes // 8]
    return (words ^ (words >> np.uint64(32))).view(field.dtype).reshape(*seed.shape, *field.shape)


def _compare(expected: Rows, got: Rows, keys: np.ndarray) -> None:
    for key, value in expected.items():
        same = (_bytes(value, keys) == _bytes(got[key], keys)).all(-1)
        if not same.all():
            stream, step = keys[tuple(np.argwhere(~same)[0])].tolist()
            raise TornError(f"Key {key!r} of stream {stream}, step {step}: {int((~same).sum())} steps were never so.")


def _bytes(value: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Bytes `[... n]` of a field `[... *shape]` of steps with keys `[... 2]`."""
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8).reshape(*keys.shape[:-1], -1)
