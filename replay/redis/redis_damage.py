"""What a replay on Redis has lost, or finds another program's values in the place of: each is said once."""

from collections.abc import Callable

import numpy as np

from replay.indexing.index import Index
from replay.redis.redis_batch import ChunkReader
from replay.redis.redis_replay import RedisReplay
from replay.redis.redis_rights import foreign_types, foreign_values


class Damage:
    """Remembers it for one process, from what `chunks` came upon."""

    def __init__(self, replay: RedisReplay, chunks: ChunkReader, note: Callable[[str], None]) -> None:
        self._replay, self._chunks, self._note = replay, chunks, note
        self._lost: set[tuple[int, int]] = set()  # streams and chunks
        self._foreign: dict[str, str] = {}  # types of the values that were found where the replay has its own

    def look_for_foreign_values(self) -> None:
        """Say once of each key that something else than the replay's own lies there."""
        new = {key.decode(errors="replace") for key in self._chunks.foreign.copy()} - self._foreign.keys()
        if new and (types := foreign_types(self._replay.reads.connection.pipeline, sorted(new))):
            self._foreign |= types
            self._note(f"Redis {self._replay.label}: {foreign_values(types)}; steps and latents there are passed over.")

    def look_for_lost_bytes(self, index: Index, starts: np.ndarray) -> None:
        """Say once of each chunk that it lacks bytes of the sequences from `starts [n, 2]` on that `index` has."""
        layout = self._replay.layout
        for stream, step in starts.tolist():
            chunk = stream, step // layout.chunk_length
            if self._chunks.foreign & self._chunks.lies_in(stream, step, layout.length):
                continue
            if index.addresses.of(stream, step) is not None and chunk not in self._lost:
                self._lost.add(chunk)
                self._note(
                    f"Redis {self._replay.label} lacks bytes of stream {stream} from step {step} on, which its index "
                    "has; sequences that need them are passed over."
                )

    def reason(self, stream: int, first_step_id: int, n: int) -> str:
        """Why the steps from the first on, which the index has, cannot be read."""
        lies_in = {key.decode() for key in self._chunks.lies_in(stream, first_step_id, n)}
        foreign = {key: kind for key, kind in self._foreign.items() if key in lies_in}
        return foreign_values(foreign) if foreign else "keys of the replay were deleted"
