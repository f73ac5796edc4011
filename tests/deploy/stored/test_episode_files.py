"""Episode files: ours come back as they were; other programs' become ours; what does not fit is named."""

from pathlib import Path

import numpy as np
import pytest

from deploy.stored.episode_files import NpzEpisodes, read_index, write_episodes
from deploy.stored.gymnasium_data import is_action
from replay.files.npz import DamagedFileError, read_npz, write_npz
from replay.foreign_rows import Reading
from replay.memory.memory_store import MemoryStore
from replay.reading.episodes import Found, episodes
from replay.step import Field, Rows, Schema
from tests.replay.cartpole import LENGTH, assert_same, play, schema, whole


def reading(of: Schema, **settings: object) -> Reading:
    actions = frozenset(filter(is_action, of.fields))
    return Reading(schema=of, actions=actions, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def played() -> MemoryStore:
    store = MemoryStore(schema(), length=LENGTH, capacity=2000, chunk_length=16, streams=4)
    play(store, steps=150)
    return store


def test_what_is_written_comes_back_identical(tmp_path: Path, played: MemoryStore) -> None:
    found = Found()
    index = write_episodes(tmp_path / "out", played.schema, episodes(played, found), {"task": "t"})
    assert_same(list(NpzEpisodes([tmp_path / "out"], reading(played.schema))), whole(played))
    assert index == read_index(tmp_path / "out")
    assert index["counts"]["episodes"] == found.whole == len(index["episodes"])
    assert index["keys"]["vector"] == ["<f4", [4]] and "deter" not in index["keys"]
    one = index["episodes"][0]
    arrays = np.load(tmp_path / "out" / one["file"])  # without pickles, by numpy's default
    assert arrays["reward"].sum() == one["return"] == one["length"] - 1
    assert sorted(arrays.files) == sorted(played.schema.fields)


def test_nothing_is_overwritten_and_nothing_is_left_half_done(tmp_path: Path, played: MemoryStore) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ValueError, match="out already exists"):
        write_episodes(tmp_path / "out", played.schema, [], {})

    def failing() -> object:
        yield from list(episodes(played, Found()))[:2]
        raise ValueError("the source is gone")

    with pytest.raises(ValueError, match="There is no whole episode to export"):
        write_episodes(tmp_path / "new", played.schema, [], {})
    with pytest.raises(ValueError, match="the source is gone"):
        write_episodes(tmp_path / "new", played.schema, failing(), {})  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


ATARI = Schema.transitions(
    {"image": Field(dtype=np.dtype(np.uint8), shape=(8, 8, 3))}, {"action": Field(dtype=np.dtype(np.int32))}
)


def theirs(length: int = 6, seed: int = 0) -> tuple[Rows, Rows]:
    """An episode in the rows of ATARI, and the same as the official program and its ports write it."""
    rng = np.random.default_rng(seed)
    action = np.append(rng.integers(1, 4, length - 1), 0).astype(np.int32)
    step = np.arange(length)
    rows = {
        "image": rng.integers(0, 255, (length, 8, 8, 3)).astype(np.uint8), "action": action,
        "reward": np.append(0, rng.normal(size=length - 1)).astype(np.float32), "is_first": step == 0,
        "is_last": step == length - 1, "is_terminal": step == length - 1, "version": np.zeros(length, np.int32),
    }  # fmt: skip
    official = {key: rows[key] for key in rows if key != "version"} | {
        "stepid": rng.integers(0, 255, (length, 20)).astype(np.uint8), "dyn/deter": np.ones((length, 4), np.float16),
        "log/reward": rows["reward"],
    }  # fmt: skip
    return rows, official


def one_hot(action: np.ndarray, empty: int) -> np.ndarray:
    out = np.eye(4, dtype=np.float32)[action]
    out[empty] = 0
    return out


def test_official_chunks_are_joined_in_their_order(tmp_path: Path) -> None:
    episodes_of = [theirs(seed=seed) for seed in range(3)]
    stream = {key: np.concatenate([official[key] for _, official in episodes_of]) for key in episodes_of[0][1]}
    names = ["20260101T000001F1-bbb-ccc-8", "20260101T000000F1-aaa-bbb-7", "20260101T000002F1-ccc-0-3"]
    for name, part in zip(names, (slice(7, 15), slice(0, 7), slice(15, 18)), strict=True):
        write_npz(tmp_path / f"{name}.npz", {key: value[part] for key, value in stream.items()})
    source = NpzEpisodes([tmp_path], reading(ATARI))
    assert_same(list(source), [rows for rows, _ in episodes_of])
    middle = tmp_path / f"{names[0]}.npz"
    middle.write_bytes(middle.read_bytes()[:-9])
    for damaged, left in (([middle], (0, 2)), ([], (1, 1))):
        source = NpzEpisodes([tmp_path], reading(ATARI))
        assert_same(list(source), [episodes_of[0][0]])
        assert (source.found.running, source.found.headless) == left and list(source.damaged) == damaged
        middle.unlink(missing_ok=True)  # its neighbours no longer meet


def test_actions_that_led_to_their_row_move_to_the_row_before(tmp_path: Path) -> None:
    """dreamerv3-torch: one file an episode, one-hot actions beginning with nothing, `discount`, no `is_last`."""
    both = [theirs(seed=seed) for seed in range(3)]
    for i, (rows, _) in enumerate(both):
        led = np.append(0, rows["action"][:-1])
        port = {
            "image": rows["image"], "action": one_hot(led, 0), "reward": rows["reward"].astype(np.float64),
            "discount": 1.0 - rows["is_terminal"], "is_first": rows["is_first"].astype(np.uint8),
            "logprob": rows["reward"],
        }  # fmt: skip
        np.savez_compressed(tmp_path / f"20260101T00000{i}-abc-6.npz", **port)  # type: ignore[arg-type]
    assert_same(list(NpzEpisodes([tmp_path], reading(ATARI))), [rows for rows, _ in both])
    chosen = list(NpzEpisodes([tmp_path], reading(ATARI), custom="chosen"))
    assert chosen[0]["action"].tolist() == [0, *both[0][0]["action"][:-1]]


def test_an_episode_that_was_cut_off_is_not_terminal(tmp_path: Path) -> None:
    rows, official = theirs()
    del official["is_terminal"], official["is_last"], official["is_first"]
    write_npz(tmp_path / "a.npz", official | {"discount": np.ones(6)})
    (got,) = NpzEpisodes([tmp_path / "a.npz"], reading(ATARI))
    assert got["is_last"].tolist() == rows["is_last"].tolist() and not got["is_terminal"].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, r"key 'image' is missing; this replay wants uint8 \[n, 8, 8, 3\], the file has \['action'"),
        ({"image": np.zeros((6, 8, 8), np.uint8)}, r"key 'image' is uint8 \[6, 8, 8\], this replay wants uint8 \[n, 8"),
        ({"image": np.full((6, 8, 8, 3), 0.5, np.float32)}, r"key 'image' is float32 .* from 0.5 to 0.5, .* uint8"),
        ({"action": np.full(6, 1.5)}, r"key 'action' is float64 \[6\] with values from 1.5 to 1.5, .* int32 \[n\]"),
        ({"action": np.zeros((6, 2), np.float32) - 1}, r"key 'action' is float32 \[6, 2\], this replay wants int32"),
        ({"action": np.zeros(5, np.int32)}, r"key 'action' is int32 \[5\], 'reward' has 6 rows"),
        ({"reward": np.full(6, 1e300)}, r"key 'reward' is float64 \[6\] with values from 1e\+300"),
        ({"reward": None}, "key 'reward' is missing"),
        ({"is_last": np.full(6, 3)}, r"key 'is_last' is int64 \[6\] with values from 3 to 3, this replay wants bool"),
        ({"is_terminal": None}, "neither 'is_terminal' nor 'discount' is there"),
        ({"depth": np.zeros(6)}, r"key 'depth' \(float64 \[6\]\) is not among .* --rename depth=OURS, or --ignore"),
        ({"reward": np.array([None] * 6, object)}, "cannot be read as .npz episodes: Object arrays cannot be loaded"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, np.ndarray | None], message: str) -> None:
    arrays = {key: value for key, value in (theirs()[1] | change).items() if value is not None}
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message) as caught:
        list(NpzEpisodes([tmp_path / "a.npz"], reading(ATARI)))
    assert "a.npz" in str(caught.value)


def test_other_names_and_keys_can_be_told(tmp_path: Path) -> None:
    rows, official = theirs()
    arrays = {"frame" if key == "image" else key: value for key, value in official.items()}
    write_npz(tmp_path / "a.npz", arrays | {"depth": rows["reward"]})
    told = reading(ATARI, rename={"frame": "image"}, ignore=frozenset({"depth"}))
    assert_same(list(NpzEpisodes([tmp_path], told)), [rows])


def test_files_that_are_no_episodes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no \.npz files"):
        NpzEpisodes([tmp_path], reading(ATARI))
    np.save(tmp_path / "a.npy", np.zeros(3))
    for name, content in (("a.npz", b"nonsense"), ("b.npz", b""), ("c.npz", (tmp_path / "a.npy").read_bytes())):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} cannot be read as \.npz episodes"):
            read_npz(tmp_path / name)
    with pytest.raises(ValueError, match=r"nowhere\.npz cannot be read"):
        read_npz(tmp_path / "nowhere.npz")
    (tmp_path / "index.json").write_text('{"format": "nexus-episodes-1", "episodes": [{"file": "../gone.npz"}]}')
    gone = NpzEpisodes([tmp_path], reading(ATARI))
    assert not list(gone) and list(gone.damaged) == [tmp_path / "gone.npz"]
    (tmp_path / "index.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="does not have format 'nexus-episodes-1'"):
        NpzEpisodes([tmp_path], reading(ATARI))


def test_any_byte_changed_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    arrays = {"reward": np.arange(9, dtype=np.float32), "is_first": np.arange(9) == 0}
    file = tmp_path / "a.npz"
    write_npz(file, arrays)
    whole = file.read_bytes()
    noticed = 0
    for place in range(len(whole)):
        for bit in (1, 128):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            try:
                got = read_npz(file)
            except DamagedFileError:
                noticed += 1
                continue
            assert got.keys() <= arrays.keys(), place  # the list of arrays has no checksum of its own
            for key, value in got.items():
                np.testing.assert_array_equal(value, arrays[key], f"{place}")
    assert noticed > len(whole) // 2
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(DamagedFileError):
            read_npz(file)
