import numpy as np
import pytest

from replay.consecutive import consecutive


def test_chunks_overlap_by_the_prefix() -> None:
    source = [{"x": np.arange(11)[None], "y": np.arange(11)[None, :, None] * 10}]
    chunks = list(consecutive(source, length=3, consec=3, prefix=2))
    assert [chunk["x"][0].tolist() for chunk in chunks] == [[0, 1, 2, 3, 4], [3, 4, 5, 6, 7], [6, 7, 8, 9, 10]]
    assert [chunk["consec"][0].tolist() for chunk in chunks] == [[i] * 5 for i in range(3)]
    assert chunks[2]["y"].shape == (1, 5, 1)


def test_the_length_must_fit() -> None:
    with pytest.raises(ValueError, match="'x' has 10 steps, 3 chunks of 3 and a prefix of 2 need 11"):
        next(consecutive([{"x": np.zeros((1, 10))}], length=3, consec=3, prefix=2))
