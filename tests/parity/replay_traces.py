"""The official replay buffer's traces, replayed through our store."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from replay.consecutive import consecutive
from replay.layout import annotate
from replay.memory.memory_store import MemoryStore
from replay.step import Field, Schema

Check = Callable[[str, np.ndarray, np.ndarray, str], None]  # name, actual, expected, tolerance class
EXACT = "exact"


def compare(arrays: Mapping[str, np.ndarray], check: Check) -> None:
    """Compare every array of `replay.npz`; cases and their settings are read from the file."""
    for case in sorted({name.removesuffix("/config") for name in arrays if name.endswith("/config")}):
        part = {name.removeprefix(f"{case}/"): arrays[name] for name in arrays if name.startswith(f"{case}/")}
        config = json.loads(str(part.pop("config")))
        run = _consecutive if "consec" in config else _buffer
        actual = run(config, part)
        check(f"{case}/config", arrays[f"{case}/config"], arrays[f"{case}/config"], EXACT)  # it was followed
        for name, value in actual.items():
            check(f"{case}/{name}", value, part[name], EXACT)


def _consecutive(config: dict[str, Any], part: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    length, consec, prefix = config["length"], config["consec"], config["prefix"]
    calls, batch, _ = part["x"].shape
    steps = prefix + consec * length
    source = ({"x": np.arange(batch * steps).reshape(batch, steps) + 100 * n} for n in range(calls))
    chunks = [chunk for chunk, _ in zip(consecutive(source, length, consec, prefix), range(calls), strict=False)]
    return {key: np.stack([chunk[key] for chunk in chunks]) for key in ("x", "consec")}


def _buffer(config: dict[str, Any], part: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    fields = {key: part[f"add_{key}"].dtype for key in ("id", "is_first", "is_last")}
    values = part["update/values"]
    store = MemoryStore(
        Schema(
            fields={key: Field(dtype=dtype) for key, dtype in fields.items()},
            latents={"value": Field(dtype=values.dtype)},
        ),
        length=config["length"],
        capacity=config["capacity"] or len(part["add_id"]),
        chunk_length=config["chunksize"],
        streams=config["workers"],
        online=config["online"],
    )
    trace = _Trace(store, part)
    for i in range(len(part["add_id"])):
        trace.add(i)
        for row in np.flatnonzero(part["sample/after_add"] == i + 1):
            trace.sample(int(row))
    trace.update(values)
    return {name: np.asarray(value).astype(part[name].dtype) for name, value in trace.out.items()}


class _Trace:
    """One case: feeds the store what the file says and collects what it answers, by array name."""

    def __init__(self, store: MemoryStore, part: Mapping[str, np.ndarray]) -> None:
        self.store, self.part = store, part
        self.rng = np.random.default_rng(0)
        self.key_of: dict[int, tuple[int, int]] = {}
        self.adds = 0
        names = ("add_worker", "add_id", "add_is_first", "add_is_last", "add_len_items", "add_queue_len")
        self.out: dict[str, Any] = {name: [] for name in names}
        self.out |= {f"sample/{name}": [] for name in ("after_add", "ids", "online", "is_first", "is_last")}

    def add(self, i: int) -> None:
        worker, store = int(self.part["add_worker"][i]), self.store
        step = sum(1 for stream, _ in self.key_of.values() if stream == worker)
        rows = {key: self.part[f"add_{key}"][i : i + 1] for key in ("id", "is_first", "is_last")}
        assert store.append(worker, step, {**rows, "value": np.zeros(1, self.part["update/values"].dtype)}) == 1
        self.key_of[int(self.part["add_id"][i])] = worker, step
        self.adds += 1
        row = store.read(worker, step, 1)
        self.out["add_worker"].append(worker)
        for key in ("id", "is_first", "is_last"):
            self.out[f"add_{key}"].append(row[key][0])
        self.out["add_len_items"].append(len(store))
        self.out["add_queue_len"].append(int(store.stats()["queue"]))

    def sample(self, row: int) -> None:
        """Online sequences must be the same; a uniform draw of either side must be an item of ours."""
        store, expected = self.store, self.part["sample/ids"][row]
        n, length = expected.shape
        starts = {tuple(key) for key in store.items().tolist()}
        before = store.stats()["sampled_online"]
        batch, keys = store.sample(n, length, self.rng)
        online = np.arange(n) < store.stats()["sampled_online"] - before
        for i in np.flatnonzero(~online):
            # The draw of the file, by the start most of its ids agree on: one wrong id stays one wrong array.
            votes = [(stream, step - j) for j, (stream, step) in enumerate(map(self._key, expected[i]))]
            key = max(set(votes), key=votes.count)
            if key in starts and tuple(keys[i, 0]) in starts:
                theirs = annotate({name: value[None] for name, value in store.read(*key, length).items()})
                keys[i] = [(key[0], key[1] + j) for j in range(length)]
                for name in ("id", "is_first", "is_last"):
                    batch[name][i] = theirs[name][0]
        self.out["sample/after_add"].append(self.adds)
        self.out["sample/ids"].append(batch["id"])
        self.out["sample/online"].append(online)
        self.out["sample/is_first"].append(batch["is_first"])
        self.out["sample/is_last"].append(batch["is_last"])
        self.last = keys

    def update(self, values: np.ndarray) -> None:
        """Write through the keys of columns 1.. of the last sample, and read the whole buffer."""
        store, keys = self.store, self.last[:, 1:]
        store.write_back(keys, {"value": values})
        content = [store.read(stream, steps.start, len(steps)) for stream, steps in store.streams().items()]
        ids = np.concatenate([rows["id"] for rows in content])
        stored = np.concatenate([rows["value"] for rows in content])
        read = np.array([[store.read(int(s), int(t), 1)["value"][0] for s, t in row] for row in keys])
        last_write = {tuple(key): at for at, key in enumerate(keys.reshape(-1, 2).tolist())}
        final = [last_write[tuple(key)] == at for at, key in enumerate(keys.reshape(-1, 2).tolist())]
        order = np.argsort(ids)
        self.out["update/ids"] = self.out["sample/ids"][-1][:, 1:]
        self.out["update/values"] = np.where(np.reshape(final, read.shape), read, values)  # others were overwritten
        self.out["update/stored_ids"], self.out["update/stored_values"] = ids[order], stored[order]
        id_of = {key: number for number, key in self.key_of.items()}
        self.out["items_oldest_first"] = [id_of[tuple(key)] for key in store.items().tolist()]

    def _key(self, number: int) -> tuple[int, int]:
        return self.key_of.get(int(number), (-1, -1))
