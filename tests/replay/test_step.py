import json

import numpy as np
import pytest

from replay.step import RESERVED, Field, Schema, check_rows

IMAGE = Field(dtype=np.dtype(np.uint8), shape=(64, 64, 3))


def test_bytes_of_a_step() -> None:
    schema = Schema.transitions(
        {"image": IMAGE}, {"action": Field(dtype=np.dtype(np.float32), shape=(6,))},
        latents={"deter": Field(dtype=np.dtype(np.float16), shape=(512,))},
    )  # fmt: skip
    reserved = 4 + 1 + 1 + 1 + 4
    row = 64 * 64 * 3 + 24 + reserved
    assert schema.nbytes == row + -row % 8 + 1024  # a stride is a multiple of 8 bytes


def test_reserved_and_doubled_keys_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\['reward'\] occur twice"):
        Schema.transitions({"reward": RESERVED["reward"]})
    with pytest.raises(ValueError, match=r"\['x'\] occur twice"):
        Schema.transitions({"x": IMAGE}, {"x": IMAGE})
    with pytest.raises(ValueError, match=r"\['x'\] are both"):
        Schema.transitions({"x": IMAGE}, latents={"x": IMAGE})


def test_a_field_is_numeric() -> None:
    with pytest.raises(ValueError, match="cannot hold Python objects"):
        Field(dtype=np.dtype(object))


def test_leading_axes() -> None:
    fields = {"x": Field(dtype=np.dtype(np.int8), shape=(2,))}
    assert check_rows(fields, {"x": np.zeros((3, 5, 2), np.int8)}, leading=2)[1] == 3
    for bad in (np.zeros((5, 2), np.int8), np.zeros((), np.int8)):
        with pytest.raises(ValueError, match="'x'"):
            check_rows(fields, {"x": bad}, leading=2)
    with pytest.raises(ValueError, match=r"leading axes"):
        check_rows({"x": Field(dtype=np.dtype(np.int8))}, {"x": np.int8(3)})


def test_a_schema_survives_json() -> None:
    schema = Schema.transitions({"image": IMAGE}, latents={"stoch": Field(dtype=np.dtype(np.int8), shape=(4,))})
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
