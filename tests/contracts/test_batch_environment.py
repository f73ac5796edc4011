"""What every batch of environments must do, whether they are single ones or a back end steps them itself."""

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest

from actors.batch_environment import BatchEnvironment, Rows, episode_seed
from actors.config import EnvironmentConfig
from actors.environment import CannotDrawError
from actors.envs import make, make_pool
from actors.pool_environment import PoolEnvironment
from actors.trivial_policies import RandomPolicy
from actors.vector import VectorEnvironment

if not find_spec("envpool"):
    pytest.skip("envpool is a dependency on Linux alone", allow_module_level=True)

COUNT, SEED, INDICES = 3, 5, [7, 8, 9]
SHORT = EnvironmentConfig(time_limit=9, action_repeat=2)
SMALL = EnvironmentConfig(image_size=(16, 12), frame_stack=2, time_limit=12)


def vector(task: str, config: EnvironmentConfig, seed: int = SEED) -> BatchEnvironment:
    return VectorEnvironment([partial(make, task, config)] * COUNT, seed, INDICES)


def pool(task: str, config: EnvironmentConfig, seed: int = SEED) -> BatchEnvironment:
    return PoolEnvironment(partial(make_pool, task, config, COUNT, 1), seed, INDICES)


MAKERS: dict[str, Callable[..., BatchEnvironment]] = {
    "single cartpoles": partial(vector, "gym:CartPole-v1", EnvironmentConfig()),
    "single cartpoles of envpool": partial(vector, "envpool:CartPole-v1", EnvironmentConfig()),
    "pool of cartpoles": partial(pool, "envpool:CartPole-v1", EnvironmentConfig()),
    "pool of pendulums, repeated": partial(pool, "envpool:Pendulum-v1", SHORT),
    "pool of frozen lakes": partial(pool, "envpool:FrozenLake-v1", EnvironmentConfig()),
    "pool of race cars, stacked": partial(pool, "envpool:CarRacing-v3", SMALL),
}


@pytest.fixture(params=MAKERS)
def batch(request: pytest.FixtureRequest) -> Iterator[BatchEnvironment]:
    made = MAKERS[request.param]()
    yield made
    made.close()


def play(batch: BatchEnvironment, steps: int, seed: int = 0) -> list[Rows]:
    policy, rows = RandomPolicy(batch.action_space, seed), [batch.step()]
    for draw in range(steps):
        rows.append(batch.step(policy.act(None, rows[-1], rows[-1]["is_first"], draw)[1]))
    return rows


def test_rows_are_as_the_spaces_say(batch: BatchEnvironment) -> None:
    assert isinstance(batch, BatchEnvironment)
    assert (len(batch), batch.env_indices, batch.quarantined) == (COUNT, INDICES, 0)
    assert batch.backend and batch.frames_per_step > 0
    for rows in play(batch, 15):
        assert rows.keys() == batch.observation_space.keys() | {"reward", "is_first", "is_last", "is_terminal"}
        for key, space in batch.observation_space.items():
            assert (rows[key].dtype, rows[key].shape) == (space.dtype, (COUNT, *space.shape)), key
        assert rows["reward"].dtype == np.float32
        assert all(rows[f"is_{flag}"].dtype == bool for flag in ("first", "last", "terminal"))
        assert batch.there.all() and not batch.replaced.any()
        assert not (rows["is_terminal"] & ~rows["is_last"]).any()


def test_the_call_after_a_last_row_begins_the_next_episode(batch: BatchEnvironment) -> None:
    rows = play(batch, 60)
    assert rows[0]["is_first"].all()
    for before, after in zip(rows, rows[1:], strict=False):
        assert np.array_equal(before["is_last"], after["is_first"])
        assert not after["reward"][after["is_first"]].any()
    assert sum(row["is_last"].sum() for row in rows) >= COUNT


def test_episodes_are_counted_and_scored(batch: BatchEnvironment) -> None:
    expected = []
    scores, lengths, counts = [0.0] * COUNT, [0] * COUNT, [0] * COUNT
    for row in play(batch, 60):
        for i in range(COUNT):
            if row["is_first"][i]:
                scores[i], lengths[i] = 0.0, 0
            else:
                scores[i], lengths[i] = scores[i] + float(row["reward"][i]), lengths[i] + batch.frames_per_step
            if row["is_last"][i]:
                expected.append((INDICES[i], counts[i], lengths[i], pytest.approx(scores[i], rel=1e-5)))
                counts[i] += 1
    episodes = batch.finished()
    assert [(e.env_index, e.episode, e.length, e.score) for e in episodes] == expected
    assert {e.backend for e in episodes} == {batch.backend}
    assert batch.finished() == []
    assert all(e.seed == episode_seed(SEED, e.env_index, 0) for e in episodes if e.episode == 0)
    assert batch.episodes == [count - end for count, end in zip(counts, batch.ended, strict=True)]


def test_the_run_seed_determines_everything(batch: BatchEnvironment, request: pytest.FixtureRequest) -> None:
    made = MAKERS[request.node.callspec.params["batch"]]
    again, other = made(), made(seed=6)
    one, two, three = play(batch, 25), play(again, 25), play(other, 25)
    assert all(np.array_equal(a[key], b[key]) for a, b in zip(one, two, strict=True) for key in a)
    assert not all(np.array_equal(a[key], b[key]) for a, b in zip(one, three, strict=True) for key in a)
    again.close()
    other.close()


def test_rows_are_not_overwritten(batch: BatchEnvironment) -> None:
    rows = batch.step()
    kept = {key: value.copy() for key, value in rows.items()}
    policy = RandomPolicy(batch.action_space)
    for draw in range(5):
        batch.step(policy.act(None, rows, rows["is_first"], draw)[1])
    assert all(np.array_equal(rows[key], kept[key]) for key in kept)


def test_actions_are_not_changed(batch: BatchEnvironment) -> None:
    rows = batch.step()
    actions = RandomPolicy(batch.action_space).act(None, rows, rows["is_first"], 0)[1]
    kept = {key: value.copy() for key, value in actions.items()}
    batch.step(actions)
    assert all(np.array_equal(actions[key], kept[key]) for key in kept)


def test_what_cannot_be_restored_begins_the_next_episode(
    batch: BatchEnvironment, request: pytest.FixtureRequest
) -> None:
    played = play(batch, 3)
    rows = {key: np.stack([row[key][1] for row in played]) for key in played[0]}
    rows |= {key: np.zeros((4, *space.shape), space.dtype) for key, space in batch.action_space.items()}
    rows["reward"] = rows["reward"] + 0.5  # not what was paid
    fresh = MAKERS[request.node.callspec.params["batch"]]()
    fresh.episodes = [3] * COUNT
    restored = fresh.restore(1, 4, rows)
    assert not restored and "new" in restored.reason
    fresh.finished()
    assert fresh.step()["is_first"].all()
    assert fresh.episodes == [4, 5, 4]
    fresh.close()


def test_it_draws_itself(batch: BatchEnvironment, request: pytest.FixtureRequest) -> None:
    batch.step()
    if "frozen" in request.node.callspec.id:
        with pytest.raises(CannotDrawError, match="FrozenLake-v1 of envpool cannot be rendered"):
            batch.render(1)
        return
    picture = batch.render(1)
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[-1] == 3
    assert picture.max() > 0
