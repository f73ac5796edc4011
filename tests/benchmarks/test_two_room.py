"""The TwoRoom benchmark runs and reports what it says."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from learner.checkpoint import Checkpoints
from tests.benchmarks.two_room import main
from tests.world_models import small_agent
from tests.world_models.jepa import small_vjepa2_ac
from tests.world_models.latent import small as small_latent
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays


def test_planners_are_scored_beside_those_that_know_the_door(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = small_agent.build(
        {"image": replace(small_agent.IMAGE, shape=(64, 64, 3))}, {"action": small_agent.CONTINUOUS}, replace(
            small_agent.CONFIG, encoder=replace(small_agent.CONFIG.encoder, mults=(1, 1, 2, 2)),
            decoder=replace(small_agent.CONFIG.decoder, mults=(1, 1, 2, 2)),
        )
    )  # fmt: skip
    spaces = agent.observation_space, agent.action_space
    document = ModelDocument(config=agent.config, observation=spaces[0], action=spaces[1]).to_json()
    Checkpoints.of(tmp_path / "rssm").save(3, {"model": as_arrays(agent)}, {"config": document})
    saved = small_vjepa2_ac.saved(tmp_path / "ac"), small_latent.saved(tmp_path / "latent"), tmp_path / "rssm"
    runs = list(map(str, saved))
    small = ["--episodes", "2", "--samples", "4", "--iterations", "1", "--horizon", "1", "--block", "2"]
    main(["--runs", *runs, *small, "--replan-every", "2", "--json"])
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    success = {row["model"]: row["success"] for row in rows}
    assert list(success) == [
        "vjepa2-ac", "vjepa2-ac untrained", "latent", "latent untrained", "rssm", "rssm untrained",
        "straight line", "random actions", "oracle",
    ]  # fmt: skip
    assert success["oracle"] == 1 and success["random actions"] <= 0.03 and 0.1 <= success["straight line"] <= 0.3
    for row in rows:
        low, high = row["interval95"]
        assert 0 <= low <= row["success"] <= high + 1e-9 <= 1 + 1e-9
        assert len(row["protocol"]["seeds"]) == (2 if row["planner"] else 200)
