"""What is measured of Genie's models while they are trained."""

from typing import Any

import numpy as np
import pytest
import torch

from deploy.stored.pretraining_data import PretrainingData
from deploy.wiring.pretraining import DataConfig, GenieDynamicsRun, GenieLatentActionRun, GenieTokenizerRun
from learner.pretrain.config import ProbeConfig, TrainingConfig
from learner.pretrain.monitor import Monitor
from learner.pretrain.objectives import objective
from learner.pretrain.pretrainer import Pretrainer
from tests.learner.video_quality.small_world import config

DATA = DataConfig(where="generated:block_world", scale=(1.0, 1.0), aspect=(1.0, 1.0))
PROBE = ProbeConfig(examples=8, batch_size=4)
WHOLE = config()


@pytest.mark.parametrize(
    ("run", "names"),
    [
        (
            GenieTokenizerRun(model=WHOLE.tokenizer, data=DATA, probe=PROBE),
            {"tokenizer_psnr", "codebook_perplexity", "codebook_used"},
        ),
        (
            GenieLatentActionRun(model=WHOLE.latent_action, data=DATA, probe=PROBE),
            {"psnr_1", "copy_psnr_1", "actions_used", "action_perplexity", "action_nmi", "shuffled_nmi"},
        ),
        (
            GenieDynamicsRun(model=WHOLE, data=DATA, probe=PROBE),
            {"psnr_1", "copy_psnr_1", "delta_psnr_1", "action_shuffle_ratio", "token_accuracy", "action_nmi"},
        ),
    ],
    ids=["tokenizer", "latent_action", "dynamics"],
)
def test_each_stage_says_how_good_it_is(run: Any, names: set[str]) -> None:
    torch.manual_seed(0)
    trainer = Pretrainer(objective(run.model), TrainingConfig(batch_size=4, device="cpu"), seed=0)
    with PretrainingData(run) as data:
        assert "actions" not in data.train.example(0, np.random.default_rng(0))  # the model never sees them
        monitor = Monitor(trainer, data.reference, data.held_out, run.probe, seed=0)
        before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        found = monitor.measure()
    assert found.keys() >= {f"probe/{name}" for name in names}
    assert all(torch.equal(value, before[key]) for key, value in trainer.model.state_dict().items())
    assert trainer.model.training
