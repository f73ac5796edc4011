"""Genies of a few thousand weights, as a checkpoint has them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from safetensors.numpy import save_file

from deploy.play.game import Game
from deploy.play.recordings import Recording, read_recordings
from tests.integration.runs import environment
from world_models.genie.config import (
    DynamicsConfig,
    GenieConfig,
    LatentActionConfig,
    QuantizerConfig,
    TokenizerConfig,
    TransformerConfig,
)
from world_models.genie.dynamics import Sampling
from world_models.genie.genie import Genie
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays

_SMALL = TransformerConfig(width=16, depth=1, heads=2)
SMALLEST = GenieConfig(
    tokenizer=TokenizerConfig(
        size=16, frames=4, encoder=_SMALL, decoder=_SMALL, quantizer=QuantizerConfig(kind="fsq", levels=(4, 4))
    ),
    latent_action=LatentActionConfig(size=16, frames=4, patch=8, encoder=_SMALL, decoder=_SMALL, actions=3),
    dynamics=DynamicsConfig(transformer=_SMALL, steps=2),
)


def fresh(config: GenieConfig = SMALLEST) -> Genie:
    """Untrained, but with pixels and tokens that depend on what it sees."""
    torch.manual_seed(0)
    model = Genie(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
        model.dynamics.stay.bias.zero_()  # a fresh world stands still
    return model


def write_world(path: Path, model: Genie) -> Path:
    """A checkpoint without a run."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(ModelDocument(config=model.config).to_json()))
    save_file(as_arrays(model), path / "model.safetensors")
    return path


@cache
def clips(config: GenieConfig) -> list[Recording]:
    return read_recordings(fresh(config), Path("nowhere"), "generated:block_world")


def small_game(temperature: float = 1.0, config: GenieConfig = SMALLEST) -> Game:
    recordings = [replace(one, actions=one.actions if config.real_actions else None) for one in clips(config)]
    return Game("small", fresh(config), recordings, Sampling(steps=2, temperature=temperature), seed=0)


@contextmanager
def played(*arguments: str | Path, home: Path) -> Iterator[str]:
    """`nexus play` on a free port; its address."""
    command = [sys.executable, "-m", "deploy.cli", "play", *map(str, arguments), "--port", "0", "--device", "cpu"]
    variables = environment() | {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith("Nexus play: http://"), line
            yield line.split()[2]
        finally:
            process.terminate()
            process.wait(20)
