import numpy as np
import pytest

from replay.layout import PackedRows, new_batch, pack, pack_rows, unpack, views
from replay.step import Field, Schema
from tests.contracts.stores import SCHEMA, rows


def test_a_row_has_no_holes_and_every_key_is_aligned() -> None:
    dtype = SCHEMA.row_dtype
    assert dtype.itemsize == 24  # 8 + 4 + 4 + 2 * 3 + 1 + 1
    assert dtype.names == ("step", "reward", "stream", "image", "is_first", "is_last")
    many = np.zeros(3, dtype)
    assert all(many[key].flags.aligned for key in dtype.names)
    assert SCHEMA.latent_dtype.itemsize == 16 and SCHEMA.nbytes == 40


def test_equal_rows_are_equal_bytes() -> None:
    schema = Schema(fields={"x": Field(dtype=np.dtype(np.uint8), shape=(3,))}, latents={})
    one = pack(schema.row_dtype, {"x": np.array([[1, 2, 3]], np.uint8)}, 1)
    assert one.tobytes() == bytes([1, 2, 3, 0, 0, 0, 0, 0])


def test_packed_rows_come_back_as_views() -> None:
    given = rows(7, 0, 5)
    packed = pack(SCHEMA.row_dtype, given, 5)
    for key, value in views(packed).items():
        np.testing.assert_array_equal(value, given[key])
        assert value.base is not None and np.shares_memory(value, packed)


def test_a_batch_is_cut_and_annotated_in_place() -> None:
    batch = new_batch(SCHEMA, 4, 5)
    batch.rows.view(np.uint8).fill(0)
    batch.rows["is_first"][:, 2] = True
    part = batch.part(1, 3)
    assert part.rows.shape == (2, 5) and part.keys.shape == (2, 5, 2) and part.latents.shape == (2,)
    fields, keys = unpack(part)
    assert keys is part.keys
    np.testing.assert_array_equal(fields["is_first"], [[True, False, True, False, False]] * 2)
    np.testing.assert_array_equal(fields["is_last"], [[False, True, False, False, False]] * 2)
    np.testing.assert_array_equal(batch.rows["is_first"][:, 0], [False, True, True, False])


def test_a_schema_without_latents() -> None:
    schema = Schema(fields={"x": Field(dtype=np.dtype(np.float32))}, latents={})
    assert schema.latent_dtype.itemsize == 0 and schema.nbytes == 8
    fields, _ = unpack(new_batch(schema, 2, 3))
    assert fields.keys() == {"x"} and fields["x"].shape == (2, 3)


@pytest.mark.parametrize("shape", [(), (5,), (4, 3)])
def test_shapes_survive(shape: tuple[int, ...]) -> None:
    schema = Schema(fields={"x": Field(dtype=np.dtype(np.float64), shape=shape)}, latents={})
    value = np.random.default_rng(0).random((6, *shape))
    np.testing.assert_array_equal(views(pack(schema.row_dtype, {"x": value}, 6))["x"], value)


def test_packed_rows_are_a_mapping_and_are_packed_again_if_their_padding_is_lost() -> None:
    given = rows(7, 0, 5)
    packed = pack_rows(SCHEMA, given)
    assert packed.keys() == SCHEMA.all.keys() and len(packed) == len(SCHEMA.all)
    for key, value in packed.items():
        np.testing.assert_array_equal(value, given[key])
    assert pack_rows(SCHEMA, packed) is packed
    narrow = Schema(fields={"x": Field(dtype=np.dtype(np.uint8), shape=(3,))}, latents={})
    tight = np.zeros(2, np.dtype([("x", np.uint8, (3,))]))
    again = pack_rows(narrow, PackedRows(tight, np.zeros(2, narrow.latent_dtype)))
    assert (tight.dtype.itemsize, again.rows.dtype.itemsize) == (3, 8)
