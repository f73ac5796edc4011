"""Behaviour cloning: a network learns what an expert does, and acts so."""

import numpy as np
import torch

from actors.policies.cloned_policy import ClonedPolicy
from learner.cloning import CloningNetwork, clone


def test_a_cloned_expert_goes_where_the_goal_is() -> None:
    """The action says on which side of the agent the other cell is."""
    rng = np.random.default_rng(0)
    frames, actions = np.zeros((600, 16, 16, 3), np.uint8), rng.integers(4, size=600)
    y, x = rng.integers(1, 3, size=(2, 600))
    for frame, action, row, column in zip(frames, actions, y, x, strict=True):
        frame[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = (240, 240, 30)
        down, right = ((-1, 0), (1, 0), (0, -1), (0, 1))[action]
        frame[4 * (row + down) :, 4 * (column + right) :][:4, :4] = (230, 20, 220)
    network = clone(frames[:500], actions[:500], 4, updates=60)
    with torch.no_grad():
        right = (network(torch.from_numpy(frames[500:])).argmax(-1).numpy() == actions[500:]).mean()
    assert right > 0.9


def test_the_policy_samples_and_translates() -> None:
    torch.manual_seed(0)
    network = CloningNetwork(3, width=4, depth=1)
    network.logits.bias.data[:] = torch.tensor([-50.0, 50.0, -50.0])
    seen = {"image": np.zeros((5, 8, 8, 3), np.uint8)}
    policy = ClonedPolicy(network, lambda chosen: chosen + 2)
    _, actions, _ = policy.act(None, seen, np.ones(5, bool), 0)
    assert actions["action"].tolist() == [3] * 5 and actions["action"].dtype == np.int32
    network.logits.bias.data[:] = 0
    draws = [ClonedPolicy(network).act(None, seen, np.ones(5, bool), n)[1]["action"].tolist() for n in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1] and len(set(map(tuple, draws))) > 1
