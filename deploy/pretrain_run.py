"""A pretraining run: batches, updates, measurements, logs and checkpoints. On a CPU it repeats bit for bit."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import SupportsFloat

import torch
from torch import nn

from deploy.interrupt import Interrupt
from deploy.reports.pretraining.board import PretrainBoard
from deploy.stored.pretraining_data import PretrainingData
from deploy.wiring.claim import claim
from deploy.wiring.pretraining import FREE, GenieDynamicsRun, LatentRun, PretrainConfig, VJEPA2ACRun, rooted
from learner.checkpoint import Checkpoints, read_arrays, read_document
from learner.datasets.batches import Batches
from learner.datasets.encoded import Encoded
from learner.pretrain.latent_objective import LatentObjective
from learner.pretrain.monitor import Monitor
from learner.pretrain.objectives import objective
from learner.pretrain.pretrainer import Pretrainer
from learner.processes import Processes
from world_models.checkpoint_files import WEIGHTS
from world_models.genie.genie import Genie
from world_models.jepa.vjepa2 import VJEPA2
from world_models.jepa.vjepa2_ac import VJEPA2AC
from world_models.latent.latent_world import LatentWorld
from world_models.loading import load_model, load_world_model
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays, load_parameters

TRAINING = "training.safetensors"


class PretrainRun:
    """Builds or continues the run in `logdir` on `data`."""

    def __init__(self, config: PretrainConfig, logdir: Path, data: PretrainingData, processes: Processes | None = None):
        self.logdir, self.data, self.processes = logdir.absolute(), data, processes or Processes()
        self.claim = claim(rooted(config), self.logdir, FREE)
        self.config = config = self.claim.config
        self.board = PretrainBoard(config, self.logdir)
        self.interrupt = Interrupt()
        self._named = ""  # what was last said about unreadable examples
        self.checkpoints = Checkpoints.of(self.logdir, config.keep_checkpoints)

    def run(self) -> str:
        """Train until all updates are made; returns how it ended: `done` or `interrupted`.

        OSError: a checkpoint or log cannot be written; earlier checkpoints stay whole. ValueError: too much of the data
        is unreadable. NonFiniteError.
        """
        data = self.data
        with self.interrupt.listening(), self.board:
            self.board.note(data.describe())
            path = self._checkpoint() if self.claim.continues else None
            self.processes.from_first(int(path.name) if path else -1)
            self.trainer = build_trainer(self.config, self.processes, fresh=path is None)
            self.batches = build_batches(self.config, data, self.processes, self.trainer)
            if isinstance(self.batches.dataset, Encoded):
                self.board.note(self.batches.dataset.describe())
            if path:
                self._restore(path)
            data.require_readable()
            self.claim.confirm()
            every = self.config.probe.every
            self.monitor = Monitor(
                self.trainer, data.reference, data.held_out, self.config.probe, self.config.seed, data.unreadable
            )
            if every and not path:
                self._log({}, measured=self._measure())
            stopped = self._train()
            if self.trainer.updates not in self.checkpoints.numbers():
                self.board.show(self.trainer.updates, "saving")
                self._save()
            self.board.show(self.trainer.updates, "saved")
        return "interrupted" if stopped else "done"

    def _train(self) -> bool:
        """Make the remaining updates; whether it was asked to stop before the last."""
        config, trainer = self.config, self.trainer
        self.board.begin(trainer.updates)
        with closing(self.batches.after(trainer.updates)) as batches:
            while trainer.updates < config.training.updates:
                if self.processes.any(self.interrupt.asked):
                    return True
                metrics = trainer.update(next(batches))
                updates, every = trainer.updates, config.probe.every
                last = updates == config.training.updates
                measures = bool(every) and (updates % every == 0 or last)
                if updates % config.log_every == 0 or measures or last:
                    self._log(metrics, self._measure() if measures else {})
                if not last and self.checkpoints.due(updates, config.checkpoint_every, config.checkpoint_seconds):
                    self.board.show(updates, "saving")
                    self._save()
                self.board.show(updates, "training")
        return False

    def _measure(self) -> dict[str, float]:
        self.board.show(self.trainer.updates, "measuring")
        return self.monitor.measure()

    def _log(self, metrics: Mapping[str, SupportsFloat], measured: Mapping[str, float]) -> None:
        unreadable = self.data.unreadable
        self.board.log(self.trainer.updates, {**metrics, **measured, "data/unreadable": len(unreadable)})
        if (names := unreadable.describe()) != self._named:
            self._named = names
            self.board.note(names)

    def _save(self) -> None:
        """Write a checkpoint of everything."""
        document = ModelDocument(config=self.config.model_config).to_json()
        state = {"board": self.board.state(), "unreadable": dict(self.data.unreadable.reasons)}
        self.checkpoints.save(
            self.trainer.updates,
            {"model": as_arrays(self.trainer.model), "training": self.trainer.state()},
            {"config": document, "state": state},
        )

    def _checkpoint(self) -> Path | None:
        """The newest whole checkpoint; None: the run starts over."""
        path = self.checkpoints.newest(self.board.note)
        if path is None:
            self.board.metrics.start_over(self.board.note)
        return path

    def _restore(self, path: Path) -> None:
        load(self.trainer, path)
        state = read_document(path / "state.json")
        self.data.unreadable.reasons.update(state["unreadable"])
        self.board.load(state["board"])
        self.board.note(f"Continuing {self.logdir} at update {self.trainer.updates:,}.")


def follow(config: PretrainConfig, logdir: Path, data: PretrainingData, processes: Processes) -> None:
    """The part of a process other than the first, which decides, logs and saves."""
    config, interrupt = rooted(config), Interrupt()
    with interrupt.listening():
        newest = processes.from_first(-1)
        trainer = build_trainer(config, processes, fresh=newest < 0)
        if newest >= 0:
            load(trainer, Checkpoints.of(logdir.absolute()).path(newest))
        with closing(build_batches(config, data, processes, trainer).after(trainer.updates)) as batches:
            while trainer.updates < config.training.updates and not processes.any(interrupt.asked):
                trainer.update(next(batches))


def build_trainer(config: PretrainConfig, processes: Processes, fresh: bool) -> Pretrainer:
    """A trainer with a new model. If `fresh`, it has the weights that the run is to begin with, and the frozen encoder
    of V-JEPA 2-AC; otherwise the checkpoint to load has them."""
    torch.set_num_threads(config.training.threads or max(1, torch.get_num_threads() // processes.size))
    torch.manual_seed(config.seed)
    made = objective(config.model_config)
    if fresh:
        _load_frozen(config, made.model)
    if isinstance(config, LatentRun) and config.encoder:
        made.model.freeze_encoder()  # type: ignore[operator]
    start = load_world_model(init) if fresh and (init := getattr(config, "init", "")) else None
    if start:
        load_parameters(made.model, start.model.state_dict(), start.folder)
    trainer = Pretrainer(made, config.training, seed=config.seed, processes=processes)
    if start and (start.folder / TRAINING).exists():
        trainer.load_moments(read_arrays(start.folder / TRAINING))
    return trainer


def _load_frozen(config: PretrainConfig, model: nn.Module) -> None:
    """Load the parts that earlier runs have trained."""
    if isinstance(config, VJEPA2ACRun):
        assert isinstance(model, VJEPA2AC)
        trained = load_model(config.encoder)
        assert isinstance(trained, VJEPA2), config.encoder
        load_parameters(model.encoder, trained.target_encoder.state_dict(), config.encoder)
    if isinstance(config, LatentRun) and config.encoder:
        assert isinstance(model, LatentWorld)
        load_parameters(model.encoder, load_model(config.encoder).encoder.state_dict(), config.encoder)  # type: ignore[union-attr]
    if isinstance(config, GenieDynamicsRun):
        assert isinstance(model, Genie)
        load_parameters(model.tokenizer, load_model(config.tokenizer).state_dict(), config.tokenizer)
        if model.latent_action is not None:
            load_parameters(model.latent_action, load_model(config.latent_action).state_dict(), config.latent_action)


def build_batches(config: PretrainConfig, data: PretrainingData, processes: Processes, trainer: Pretrainer) -> Batches:
    """This process's shares of the batches."""
    share, train = processes.share(config.training.batch_size), data.train
    if isinstance(config, LatentRun) and config.encoded_clips:
        assert isinstance(trainer.objective, LatentObjective)
        train = Encoded(train, config.encoded_clips, trainer.objective.encoded, config.seed)
    return Batches(
        train, size=share.stop - share.start, seed=config.seed, rank=processes.rank, world_size=processes.size,
        threads=config.data.threads, unreadable=data.unreadable,
    )  # fmt: skip


def load(trainer: Pretrainer, path: Path) -> None:
    """Continue from the checkpoint at `path`."""
    trainer.load(read_arrays(path / WEIGHTS), read_arrays(path / TRAINING))
