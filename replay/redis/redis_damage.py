"""Reports what a replay on Redis has lost or finds replaced by another program's values, each once."""

from collections.abc import Callable

import numpy as np

from replay.indexing.index import Index
from replay.redis.redis_batch import ChunkReader
from replay.redis.redis_replay import RedisReplay
from replay.redis.redis_rights import foreign_types, foreign_values


class Damage:
    """Remembers what one process has reported; `chunks` notices the foreign values."""

    def __init__(self, replay: RedisReplay, chunks: ChunkReader, note: Callable[[str], None]) -> None:
        self._replay, self._chunks, self._note = replay, chunks, note
        self._lost: set[tuple[int, int]] = set()  # streams and chunks
        self._foreign: dict[str, str] = {}  # key -> type of the values that are not the replay's

    def look_for_foreign_values(self) -> None:
        """Report each key that holds another program's value, once."""
        new = {key.decode(errors="replace") for key in self._chunks.foreign.copy()} - self._foreign.keys()
        if new and (types := foreign_types(self._replay.reads.connection.pipeline, sorted(new))):
            self._foreign |= types
            self._note(
                f"Redis {self._replay.label}: {foreign_values(types)}; steps and latents stored there are skipped."
            )

    def look_for_lost_bytes(self, index: Index, starts: np.ndarray) -> None:
        """Report each chunk that lacks bytes of a sequence from `starts [n, 2]` which `index` still has, once."""
        layout = self._replay.layout
        for stream, step in starts.tolist():
            chunk = stream, step // layout.chunk_length
            if self._chunks.foreign & self._chunks.lies_in(stream, step, layout.length):
                continue
            if index.addresses.of(stream, step) is not None and chunk not in self._lost:
                self._lost.add(chunk)
                self._note(
                    f"Redis {self._replay.label} lacks bytes of stream {stream} from step {step} on, which its index "
                    "lists; sequences that need them are skipped."
                )

    def reason(self, stream: int, first_step_id: int, n: int) -> str:
        """Why steps that the index has cannot be read."""
        lies_in = {key.decode() for key in self._chunks.lies_in(stream, first_step_id, n)}
        foreign = {key: kind for key, kind in self._foreign.items() if key in lies_in}
        return foreign_values(foreign) if foreign else "keys of the replay were deleted"
