"""Fields of the configuration by their dotted names."""

from typing import Any

import numpy as np
import pytest

from deploy.commands.train import parse_train
from deploy.wiring.config import RunConfig
from deploy.wiring.fields import as_options, with_fields
from world_models.dataclass_json import differences, to_json


def test_fields_are_set_by_their_dotted_names_or_in_groups() -> None:
    config = with_fields(RunConfig(), {"learner.batch_size": 8, "learner": {"optimizer": {"lr": np.float64(0.5)}}})
    changed = differences(to_json(RunConfig()), to_json(config))
    assert {name: new for name, (_, new) in changed.items()} == {"learner.batch_size": 8, "learner.optimizer.lr": 0.5}
    assert type(config.learner.optimizer.lr) is float


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learner.train_ration": 3}, "learner.train_ration'.* the nearest: learner.train_ratio"),
        ({"learner": {"batchsize": 3}}, "learner.batchsize'.* the nearest: learner.batch_size"),
        ({"learner": 3}, "Unknown field 'learner'"),
        ({"zzz": 3}, "nexus train --help"),
        ({"learner.batch_size": 1.5}, "learner.batch_size is 1.5 .*an integer"),
        ({"learner.batch_length": 1}, "must be at least 2"),
    ],
)
def test_what_is_wrong_with_a_field_is_said(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        with_fields(RunConfig(), values)


def test_options_mean_the_same_as_the_values() -> None:
    values = {
        "learner.train_ratio": 1e-5, "replay.online": False, "model.encoder.mults": [2, 3], "environment.camera": -1,
        "replay.selection.uniform": 0.5, "replay.selection.recency": 0.5, "environment.env_config": '{"size": 5}',
    }  # fmt: skip
    parsed = parse_train(["gym:CartPole-v1", "--logdir", "x", *as_options(values)])
    default = parse_train(["gym:CartPole-v1", "--logdir", "x"])
    assert parsed == with_fields(default, values)
