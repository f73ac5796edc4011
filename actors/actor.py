"""An actor: steps its environments with the newest policy and writes every transition to replay."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from actors.batch_environment import BatchEnvironment, Episode
from actors.policies.actor_policy import ActorPolicy
from actors.trivial_policies import Arrays, RandomPolicy
from replay.store import Store
from replay.writer import Writer
from world_models.snapshot import SnapshotSource


class Actor:
    """Rows of environment i go to `streams[i]`, step ids from 0; those of an environment that was made again after a
    failure begin a new stream. Counts environment steps (replay rows) and frames."""

    def __init__(
        self,
        environments: BatchEnvironment,
        policy: ActorPolicy,
        store: Store,
        streams: Sequence[int],
        *,
        seed: int,
        random_steps: int = 0,
        flush_steps: int = 1,
        flush_seconds: float = 0.5,
        snapshots: SnapshotSource | None = None,
    ):
        assert len(streams) == len(environments), "one stream per environment"
        self.environments, self.policy, self.store, self.snapshots = environments, policy, store, snapshots
        self.random_steps = random_steps
        self.random = RandomPolicy(environments.action_space, seed)
        self.carry = policy.initial(len(streams))
        self.actions: Arrays | None = None
        self._no_latents = {key: np.stack([value] * len(streams)) for key, value in policy.latents.items()}
        self._version = np.full(len(streams), policy.version, np.int32)
        self._skipped: Arrays | None = None  # the newest actions, if the carry does not know them
        self.calls = self.steps = self.frames = 0
        self.episode_start = [0] * len(streams)
        self.writer = Writer(store, streams, flush_steps=flush_steps, max_seconds=flush_seconds)

    @property
    def streams(self) -> list[int]:
        return list(self.writer.streams)

    def step(self) -> list[Episode]:
        """Step every environment once; returns the episodes that ended, with this actor's frames."""
        rows = self.environments.step(self.actions)
        first, last, there = rows["is_first"], rows["is_last"], self.environments.there
        present, begun, over = int(np.count_nonzero(there)), int(np.count_nonzero(first)), np.count_nonzero(last)
        if not present:
            return []
        if self.snapshots is not None and (snapshot := self.snapshots.newest(self.policy.version)):
            self.policy.update(snapshot)
        if self.steps < self.random_steps:
            _, actions, _ = self.random.act(None, rows, first, self.calls)
            self._skipped, latents = actions, self._no_latents
        else:
            self._catch_up()
            self.carry, actions, latents = self.policy.act(self.carry, rows, first, self.calls)
        # The stored action of a last step is zero; the carry keeps its own, which the reset discards anyway.
        if over:
            actions = {key: value.copy() for key, value in actions.items()}
            for value in actions.values():
                value[last] = 0
        self.actions = actions
        if begun:
            for i in self.environments.replaced.nonzero()[0].tolist():
                self.writer.cut(i)
            for i in first.nonzero()[0].tolist():
                self.episode_start[i] = self.writer.next_step(i)
        self.calls += 1
        self.steps += present
        self.frames += (len(first) - begun) * self.environments.frames_per_step
        if self._version[0] != self.policy.version:
            self._version = np.full(len(first), self.policy.version, np.int32)
        row = {**rows, **actions, **latents, "version": self._version}
        self.writer.add(row, None if present == len(there) else there)
        episodes = self.environments.finished()
        for episode in episodes:
            episode.frames = self.frames
        return episodes

    def _catch_up(self) -> None:
        """Let the carry know the newest of the actions that were chosen without the model."""
        if self._skipped is not None:
            self.carry, self._skipped = self.policy.override(self._skipped), None

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """Counters (JSON) and arrays from which `load` continues exactly; flushes first."""
        self.writer.flush()
        self._catch_up()
        counters = {
            "calls": self.calls, "steps": self.steps, "frames": self.frames, "next_step": self.writer.next_steps,
            "episode_start": list(self.episode_start), "episodes": list(self.environments.episodes),
            "ended": self.environments.ended.tolist(), "streams": self.streams, "version": self.policy.version,
        }  # fmt: skip
        arrays = {f"carry/{key}": value for key, value in self.policy.state(self.carry).items()}
        return counters, arrays | {f"next/{key}": value for key, value in (self.actions or {}).items()}

    def go_on(self, counters: dict[str, Any]) -> None:
        """Continue the counts of `state` without its streams and episodes: the store was not rolled back."""
        self.calls, self.steps, self.frames = counters["calls"], counters["steps"], counters["frames"]
        self.policy.version = counters["version"]

    def load(self, counters: dict[str, Any], arrays: Arrays) -> list[str]:
        """Continue from `state`: restore each open episode by its stored rows. Returns lines about those that could not
        be restored; they start over."""
        self.go_on(counters)
        self.episode_start, next_steps = counters["episode_start"], counters["next_step"]
        if isinstance(next_steps, int):  # written by earlier versions
            next_steps = [next_steps] * len(self.streams)
        for i, stream in enumerate(counters["streams"]):
            self.writer.replace(i, stream, next_steps[i])
        self.carry = self.policy.load({k[6:]: v for k, v in arrays.items() if k.startswith("carry/")})
        self.actions = {k[5:]: v for k, v in arrays.items() if k.startswith("next/")} or None
        problems = []
        for i, episode in enumerate(counters["episodes"]):
            if counters["ended"][i]:
                self.environments.episodes[i] = episode
                continue
            start = self.episode_start[i]
            try:
                rows = self.store.read(self.streams[i], start, next_steps[i] - start)
            except ValueError as error:
                self.environments.episodes[i] = episode
                problems.append(f"environment {i}, episode {episode} is no longer in replay ({error}); it starts over.")
                continue
            if not (restored := self.environments.restore(i, episode, rows)):
                problems.append(restored.reason)
        self.environments.finished()
        return list(dict.fromkeys(problems))  # a back end that restores none says so once
