"""RLlib's SAC over a replay of plain arrays.

RLlib's own replay cuts an object for an episode out of its store for every sampled step, which takes several times as
long as an update of a small network on a CPU, and is not part of its checkpoints.
"""

import numpy as np
from ray.rllib.algorithms.sac import SAC
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    TD_ERROR_KEY,
)

MODULE = "default_policy"  # RLlib's name of the only policy


class Replay:
    """The newest `capacity` steps, drawn uniformly."""

    def __init__(self, capacity: int, seed: int) -> None:
        self.capacity, self.seen = capacity, 0
        self._generator = np.random.default_rng(seed)
        self._columns: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    @property
    def gb(self) -> float:
        return sum(values[:1].nbytes for values in self._columns.values()) * len(self) / 1e9

    def add(self, episode: SingleAgentEpisode) -> None:
        """Store a piece of an episode, T steps with T + 1 observations."""
        observations, rewards = np.asarray(episode.get_observations()), np.asarray(episode.get_rewards(), np.float32)
        terminated = np.zeros(len(rewards), bool)
        if len(rewards):
            terminated[-1] = episode.is_terminated
        rows = {
            Columns.OBS: observations[:-1], Columns.NEXT_OBS: observations[1:],
            Columns.ACTIONS: np.asarray(episode.get_actions()), Columns.REWARDS: rewards,
            Columns.TERMINATEDS: terminated,
        }  # fmt: skip
        self.load(rows)

    def load(self, rows: dict[str, np.ndarray]) -> None:
        """Store T steps, columns [T ...]."""
        count = len(rows[Columns.REWARDS])
        places = (self.seen + np.arange(count)) % self.capacity
        for name, values in rows.items():
            if name not in self._columns:  # untouched pages take no memory
                self._columns[name] = np.empty((self.capacity, *values.shape[1:]), values.dtype)
            self._columns[name][places] = values
        self.seen += count

    def arrays(self) -> dict[str, np.ndarray]:
        """What `load` takes, oldest first."""
        order = (max(0, self.seen - self.capacity) + np.arange(len(self))) % self.capacity
        return {name: values[order] for name, values in self._columns.items()}

    def sample(self, count: int) -> SampleBatch:
        rows = self._generator.integers(len(self), size=count)
        batch = {name: values[rows] for name, values in self._columns.items()}
        ones = np.ones(count, np.float32)
        return SampleBatch({**batch, "weights": ones, "n_step": ones})


class ArraySAC(SAC):
    """SAC whose steps go through `replay`; its losses, networks and environments are RLlib's."""

    replay: Replay
    updates_per_step: float
    start: int
    _owed = 0.0  # updates

    def training_step(self) -> None:
        """Sample a fragment, then make the updates that are due for it."""
        episodes, results = synchronous_parallel_sample(
            worker_set=self.env_runner_group, concat=True, _uses_new_env_runners=True, _return_metrics=True
        )
        self.metrics.aggregate(results, key=ENV_RUNNER_RESULTS)
        for episode in episodes:
            self.replay.add(episode)
            self._owed += len(episode) * self.updates_per_step
        if self.replay.seen < self.start:
            self._owed = 0.0
            return
        size = self.config.train_batch_size_per_learner
        results = []
        while self._owed >= 1:
            self._owed -= 1
            batch = MultiAgentBatch({MODULE: self.replay.sample(size)}, env_steps=size)
            steps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.replay.seen}
            (result,) = self.learner_group.update(batch=batch, timesteps=steps)
            result.get(MODULE, {}).pop(TD_ERROR_KEY, None)  # one number for each step
            results.append(result)
        if results:
            self.metrics.aggregate(results, key=LEARNER_RESULTS)
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group, policies={MODULE}, inference_only=True
            )
