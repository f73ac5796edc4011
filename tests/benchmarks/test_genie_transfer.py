"""The transfer benchmark runs and reports what it says; what it measures is right where the answer is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from actors.envs.block_world import AGENT, GOAL, MOVES, SIZE
from tests.benchmarks.genie_transfer import expert_video, main
from tests.world_models.genie.small import BLOCKS
from world_models.checkpoint_files import MODEL_CONFIG, WEIGHTS
from world_models.genie.config import LatentActionConfig
from world_models.genie.latent_action import LatentActionModel
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays


def test_the_expert_goes_to_the_goal() -> None:
    pairs, actions = expert_video(20, 0)
    assert pairs.shape == (len(actions), 2, SIZE, SIZE, 3) and set(actions) == {1, 2, 3, 4}
    places = [[(frame == colour).all(-1)[::4, ::4] for frame in pairs[:, 0]] for colour in (AGENT, GOAL)]
    assert (np.array(places).sum((2, 3)) == 1).all()
    after = np.array([np.argwhere((frame == AGENT).all(-1)[::4, ::4])[0] for frame in pairs[:, 1]])
    before = np.array([np.argwhere(place)[0] for place in places[0]])
    np.testing.assert_array_equal(after - before, np.array(MOVES)[actions])
    reached = ~(pairs[:, 1] == GOAL).all(-1).any((1, 2))
    assert reached.sum() == 20  # once in every episode


def test_every_row_has_success_and_an_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    config = LatentActionConfig(size=SIZE, frames=2, patch=16, encoder=BLOCKS, decoder=BLOCKS, actions=6)
    save_file(as_arrays(LatentActionModel(config)), tmp_path / WEIGHTS)
    (tmp_path / MODEL_CONFIG).write_text(json.dumps(ModelDocument(config=config).to_json()))
    words = ["--latent-action", str(tmp_path), "--video", "10", "--updates", "2", "--episodes", "4", "--json"]
    main([*words, "--labels", "20", "40"])
    out = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(row["policy"], row["labels"]) for row in out["rows"]] == [
        ("latent actions", 20), ("latent actions", 40), ("all labels", out["transitions"]), ("random", 0),
    ]  # fmt: skip
    for row in out["rows"]:
        low, high = row["interval95"]
        assert 0 <= low <= row["success"] <= high <= 1 and row["episodes"] == 4
    assert not out["met"] or out["intervals_apart"]
