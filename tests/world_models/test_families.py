"""Families of world models: every one builds, documents of it read back, and what is unknown is refused by name."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.world_models.genie.small import small_config
from tests.world_models.latent.small import small_config as small_latent
from tests.world_models.small_agent import CONFIG, CONTINUOUS, DISCRETE, IMAGE, VECTOR
from world_models.dreamer.acting import ActingModel
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.policy import DreamerPolicy
from world_models.families import FAMILIES, UnknownModelError, family_of
from world_models.jepa import presets
from world_models.model_document import ModelDocument, read_family, read_model_document
from world_models.protocol import PlanningModel
from world_models.simple.config import SimpleWorldModelConfig

OBSERVATION, ACTION = {"image": IMAGE, "vector": VECTOR}, {"button": DISCRETE, "stick": CONTINUOUS}
SMALL: dict[str, Any] = {
    "dreamer": CONFIG,
    "ijepa": presets.ijepa(),
    "vjepa2": presets.vjepa2(),
    "vjepa2_ac": presets.vjepa2_ac(),
    "genie_tokenizer": small_config().tokenizer,
    "genie_latent_action": small_config().latent_action,
    "genie": small_config(),
    "latent_world": small_latent(),
    "simple": SimpleWorldModelConfig(obs_dim=435, action_dim=5, latent_dim=4, hidden_dim=8),
}
"""A configuration of each family, small enough for tests."""


def document(config: Any) -> ModelDocument:
    return ModelDocument(task="gym:CartPole-v1", observation=OBSERVATION, action=ACTION, config=config)


def written(folder: Path, fields: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


@pytest.mark.parametrize("name", FAMILIES)
def test_each_builds_what_its_document_says(tmp_path: Path, name: str) -> None:
    there = document(SMALL[name])
    fields = there.to_json()
    assert (fields["family"], fields["format"]) == (name, FAMILIES[name].format)
    again = read_model_document(written(tmp_path, fields))
    assert again.to_json() == fields and again.config == there.config
    assert again.family is family_of(SMALL[name]) is FAMILIES[name] is read_family(tmp_path)
    model = again.family.build(again.observation, again.action, again.config)
    if again.family.acts:
        acting = again.family.build_acting(again.observation, again.action, again.config)
        assert acting.state_dict().keys() <= model.state_dict().keys()
        assert again.family.policy(acting, 0, True).initial(2)
    if again.family.plans:
        assert isinstance(again.family.planning(model), PlanningModel)


def test_dreamer_is_built_from_its_own_classes() -> None:
    family = FAMILIES["dreamer"]
    assert type(family.build(OBSERVATION, ACTION, CONFIG)) is Dreamer
    acting = family.build_acting(OBSERVATION, ACTION, CONFIG)
    policy = family.policy(acting, 3, True)
    assert type(acting) is ActingModel and type(policy) is DreamerPolicy
    assert (policy.model, policy.seed, policy.mode) == (acting, 3, True)


def test_the_first_checkpoints_named_neither_family_nor_format(tmp_path: Path) -> None:
    fields = document(CONFIG).to_json()
    del fields["family"], fields["format"]
    assert read_model_document(written(tmp_path, fields)).to_json() == document(CONFIG).to_json()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"family": "jepa9"},
            "model family 'jepa9' is unknown; this version of Nexus knows dreamer, .*. Upgrade Nexus, or",
        ),
        ({"family": "jepa9", "format": 7, "model": {}}, "model family 'jepa9' is unknown"),
        ({"format": 2}, "format 2 of model family 'dreamer' is newer than format 1, the newest that this version of"),
        ({"format": "2"}, "format '2' of model family 'dreamer' is not a whole number from 1, .* Upgrade Nexus, or"),
        ({"format": True}, "format True of model family"),
        ({"format": 0}, "format 0 of model family"),
        ({"format": 1.5}, "format 1.5 of model family"),
        ({"family": ["dreamer"]}, r"model family \['dreamer'\] is unknown"),
        ({"format": 2, "model": {"new": 1}, "observation": None}, "format 2 .* train again"),
    ],
)
def test_what_a_newer_version_wrote_is_refused_by_name(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    folder = written(tmp_path, document(CONFIG).to_json() | changed)
    for read in (read_model_document, read_family):
        with pytest.raises(UnknownModelError, match=message) as caught:
            read(folder)
        assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: ")


@pytest.mark.parametrize("changed", [{"observation": None}, {"model": {"depth": 3}}, {"action": 3}])
def test_what_is_no_document_is_refused_by_name(tmp_path: Path, changed: dict[str, Any]) -> None:
    folder = written(tmp_path, document(CONFIG).to_json() | changed)
    with pytest.raises(ValueError, match=r"config\.json") as caught:
        read_model_document(folder)
    assert not isinstance(caught.value, UnknownModelError)


def test_listing_and_reading_import_no_torch(tmp_path: Path) -> None:
    folder = written(tmp_path, document(CONFIG).to_json())
    program = (
        "import sys, pathlib; from world_models.model_document import read_model_document\n"
        f"read_model_document(pathlib.Path({str(folder)!r})); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], timeout=500, check=False)
    assert done.returncode == 0
