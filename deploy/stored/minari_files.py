"""Converts episodes to Minari datasets and back. Legend: T actions of an episode, T + 1 observations.

Minari's step t is the action after observation t with the reward and flags it led to; our row t has the reward and
flags that came with its observation. Our last row's action and our first row's reward, both zero, have no counterpart.
`infos` hold the rest of a row: the policy version, and the stored actions if they cannot be recovered from the
environment's own (because they exceed the bounds or were rounded). Each episode's attributes include a checksum of its
arrays, since HDF5 files have none.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from actors.native_actions import native_actions
from deploy.stored.gymnasium_data import (
    action_space,
    flat_rows,
    guessed_spaces,
    observation_space,
    observation_tree,
)
from learner.datasets.minari import DATA, data_folder, open_minari, require_minari
from replay.files.new_directory import new_directory
from replay.foreign_rows import convert
from replay.reading.episodes import StoredEpisode
from replay.step import Rows, Schema
from world_models.space import Spaces

_STORED = "stored_actions"
_OURS = "nexus"  # our entry in a dataset's metadata
_CRC = "nexus_crc32"  # our entry in an episode's metadata


def read_facts(path: Path) -> dict[str, Any] | None:
    """The `facts` that `write_minari` was given; None for a dataset written by another program."""
    folder = data_folder(path)
    try:
        facts = json.loads((folder / "metadata.json").read_bytes()).get(_OURS)
    except (OSError, ValueError, RecursionError, AttributeError):  # reported when the episodes are read
        return None
    return facts if isinstance(facts, dict) else None


def write_minari(
    out: Path,
    schema: Schema,
    episodes: Iterable[StoredEpisode],
    spaces: tuple[Spaces, Spaces] | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a Minari dataset to the folder `out`, complete or not at all. Returns its counts.

    The task's `spaces` give bounds, classes and the environment's own actions; without them actions stay as stored.
    """
    minari = require_minari()
    name = _dataset_id(minari, out)
    observation, action = spaces or guessed_spaces(schema)
    if not action:
        raise ValueError(
            f"Which of {sorted(observation)} are actions is not clear from their names; give --task, or name a run."
        )
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    counts = {"episodes": 0, "steps": 0}
    with new_directory(out) as folder:
        storage = MinariStorage.new(
            folder.absolute() / DATA, observation_space(observation), action_space(action), data_format="hdf5",
            jpeg_encoding=False,  # JPEG changes pixels
        )  # fmt: skip
        for episode in episodes:
            rows = episode.rows
            chosen = {key: rows[key][:-1] for key in action}
            native = native_actions(action, chosen)
            infos: dict[str, Any] = {"version": rows["version"]} if "version" in rows else {}
            back = flat_rows(action_space(action), native, schema, name, actions=True)
            if not all(np.array_equal(back[key], chosen[key]) for key in action):
                infos[_STORED] = {key: rows[key] for key in action}
            last, terminal = rows["is_last"][1:], rows["is_terminal"][1:]
            storage.update_episodes(
                [
                    EpisodeBuffer(
                        observations=observation_tree(observation, rows), actions=native, rewards=rows["reward"][1:],
                        terminations=terminal, truncations=last & ~terminal, infos=infos,
                    )
                ]
            )  # fmt: skip
            number = counts["episodes"]
            (stored,) = storage.get_episodes([number])
            storage.update_episode_metadata([{_CRC: _checksum(stored)}], [number])
            counts["episodes"] += 1
            counts["steps"] += episode.length - 1
        if not counts["episodes"]:
            raise ValueError("There is no whole episode to export.")
        storage.update_metadata(
            {"dataset_id": name, "minari_version": minari.__version__, "algorithm_name": "DreamerV3",
             _OURS: {**facts, "actions": "environment" if spaces else "stored"}}
        )  # fmt: skip
    return counts


class MinariEpisodes:
    """The episodes of Minari datasets in rows of `schema`; `action` are the task's action spaces, if known.
    `damaged` lists episodes that could not be read, or differ from what we wrote, and why."""

    def __init__(self, paths: Iterable[Path], schema: Schema, action: Spaces | None = None):
        minari = require_minari()
        self.schema, self.action, self._episode = schema, action, minari.EpisodeData
        self.damaged: dict[str, str] = {}
        self.datasets = []
        for path in paths:
            self.datasets.append((path, open_minari(path)))

    def __iter__(self) -> Iterator[Rows]:
        for path, dataset in self.datasets:
            for number in dataset.episode_indices.tolist():
                where = f"{path}, episode {number}"
                try:
                    (about,) = dataset.storage.get_episode_metadata([number])
                    (stored,) = dataset.storage.get_episodes([number])
                    if _CRC in about and about[_CRC] != _checksum(stored):
                        raise ValueError("it fails its checksum")
                except (OSError, RuntimeError, ValueError, KeyError, AssertionError) as error:
                    self.damaged[where] = f"{where}: {error}"
                    continue
                yield self._rows(dataset, self._episode(**stored), where)

    def _rows(self, dataset: Any, episode: Any, where: str) -> Rows:
        n = len(episode.rewards) + 1
        rows = flat_rows(dataset.observation_space, episode.observations, self.schema, where, actions=False)
        if {len(value) for value in rows.values()} != {n}:
            raise ValueError(f"{where}: {n - 1} rewards need {n} observations, including the last one.")
        infos = episode.infos or {}
        if _STORED in infos:
            fields = self.schema.fields
            rows |= {k: convert(v, fields[k], k, where) for k, v in infos[_STORED].items() if k in fields}
        else:
            space, ours = dataset.action_space, dataset.storage.metadata.get(_OURS, {})
            known = self.action if ours.get("actions") != "stored" else None
            actions = flat_rows(space, episode.actions, self.schema, where, actions=True, known=known)
            rows |= {k: np.concatenate([value, np.zeros_like(value[:1])]) for k, value in actions.items()}
        flag = np.zeros(n, bool)
        first, last, terminal = flag.copy(), flag.copy(), flag.copy()
        first[0] = last[-1] = True
        terminal[-1] = bool(episode.terminations[-1])
        rows |= {
            "reward": np.concatenate([[0], np.asarray(episode.rewards, np.float32).reshape(n - 1)]).astype(np.float32),
            "is_first": first, "is_last": last, "is_terminal": terminal,
            "version": np.asarray(infos.get("version", np.zeros(n)), np.int32),
        }  # fmt: skip
        if missing := sorted(set(self.schema.fields) - set(rows)):
            raise ValueError(f"{where}: key {missing[0]!r} is missing; the dataset gives {sorted(rows)}.")
        return {key: convert(rows[key], field, key, where) for key, field in self.schema.fields.items()}


def _checksum(stored: Mapping[str, Any]) -> int:
    """CRC-32 of an episode as Minari reads it, its keys in order."""
    crc = 0

    def add(name: str, value: Any) -> None:
        nonlocal crc
        if isinstance(value, Mapping):
            for key in sorted(value):
                add(f"{name}/{key}", value[key])
        elif isinstance(value, tuple):
            for key, part in enumerate(value):
                add(f"{name}/{key}", part)
        else:
            array = np.ascontiguousarray(value)
            crc = zlib.crc32(array.data, zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), crc))

    add("", {key: value for key, value in stored.items() if key != "id" and value is not None})
    return crc


def _dataset_id(minari: ModuleType, out: Path) -> str:
    try:
        minari.dataset.minari_dataset.parse_dataset_id(out.name)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"Minari names datasets like cartpole-v0, which {out.name!r} does not match; use --out "
            f"{out.with_name(f'{out.name}-v0')}."
        ) from error
    return out.name
