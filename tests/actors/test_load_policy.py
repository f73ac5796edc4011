"""What `load_policy` makes of a checkpoint by its family."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from actors.policy import load_policy
from learner.checkpoint import Checkpoints
from tests.world_models.small_agent import CONFIG, DISCRETE, VECTOR
from world_models.checkpoint_files import read_arrays
from world_models.dreamer.acting import ActingModel
from world_models.families import FAMILIES, Family, UnknownModelError
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Of a family without a policy."""

    family: ClassVar[str] = "encoder"
    width: int = 8


ENCODER = Family(
    name="encoder",
    format=3,
    config_class=f"{__name__}:EncoderConfig",
    model_class="none:Encoder",
)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """A run's, with one policy in them."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    observation, action = {"vector": VECTOR}, {"action": DISCRETE}
    document = ModelDocument(task="any", observation=observation, action=action, config=CONFIG)
    arrays = as_arrays(ActingModel(observation, action, CONFIG))
    checkpoints.save(1, {"model": arrays}, {"config": document.to_json()})
    return checkpoints


def rewrite(checkpoints: Checkpoints, **changed: object) -> None:
    """Save the policy again with another `config.json`; a value of None takes a key away."""
    path = checkpoints.path(1)
    fields = json.loads((path / "config.json").read_text()) | changed
    document = {key: value for key, value in fields.items() if value is not None}
    checkpoints.save(1, {"model": read_arrays(path / "model.safetensors")}, {"config": document})


def test_without_family_and_format_it_acts_as_with_them(checkpoints: Checkpoints) -> None:
    observations = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    new = load_policy(checkpoints.path(1))
    actions = [new(observation) for observation in observations]
    rewrite(checkpoints, family=None, format=None)
    old = load_policy(checkpoints.path(1))
    assert [old(observation) for observation in observations] == actions and len(set(actions)) > 1


def test_a_family_that_does_not_act_is_refused(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "encoder", ENCODER)
    rewrite(checkpoints, family="encoder", format=2, model={"width": 4})
    with pytest.raises(ValueError, match="model of family 'encoder', which has no policy. .* that acts: dreamer"):
        load_policy(checkpoints.path(1))


@pytest.mark.parametrize(
    ("changed", "remedy"),
    [({"family": "jepa9"}, "knows dreamer"), ({"format": 2}, "format 2"), ({"format": "2"}, "format '2'")],
)
def test_a_checkpoint_of_a_newer_version_is_neither_loaded_nor_set_aside(
    checkpoints: Checkpoints, changed: dict[str, object], remedy: str
) -> None:
    rewrite(checkpoints, **changed)
    for read in (lambda: load_policy(checkpoints.path(1)), lambda: checkpoints.newest(print)):
        with pytest.raises(UnknownModelError, match=rf"0000000001/config\.json: .*{remedy}.*Upgrade Nexus, or"):
            read()
    assert checkpoints.numbers() == [1]
