import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.keys import sequences, step_keys, stream_id

ids = st.tuples(st.integers(0, 2**24 - 1), st.integers(0, 2**24 - 1), st.integers(0, 2**15 - 1))


@given(ids, ids)
def test_stream_ids_differ_and_fit_int64(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    assert 0 <= stream_id(*one) < 2**63
    assert (stream_id(*one) == stream_id(*other)) == (one == other)


def test_a_stream_id_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="slot is 32768, allowed 0 to 32767"):
        stream_id(0, 0, 2**15)
    with pytest.raises(ValueError, match="actor is -1"):
        stream_id(-1, 0, 0)


def test_step_keys_are_sequences() -> None:
    keys = np.stack([step_keys(3, 10, 4), step_keys(2**62, 0, 4)])
    assert sequences(keys) == [(3, 10), (2**62, 0)]
    with pytest.raises(ValueError, match="Row 1 of the step keys is no|Row 1 of the step keys"):
        sequences(np.stack([step_keys(3, 10, 2), step_keys(3, 10, 4)[::2]]))
