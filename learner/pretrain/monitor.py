"""What is measured during pretraining, so that a collapse of the representation is seen. Legend: N examples."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from learner.datasets.batches import Batches, Unreadable
from learner.datasets.dataset import Dataset, Example
from learner.pretrain.config import ProbeConfig
from learner.pretrain.measures import effective_rank, knn_accuracy, linear_accuracy
from learner.pretrain.pretrainer import Pretrainer

_MASKS = 1 << 40  # number of the first draw of masks, beyond any update's


class Monitor:
    """Measures on held-out examples; labels, where there are any, are learned from examples of the training set.

    `probe/loss`: the loss on held-out examples, always with the same masks; `probe/trivial_loss`: that of a prediction
    that needs no training (both fall together if the representation collapses); `probe/loss/NAME`: losses that have no
    trivial counterpart and are not part of `probe/loss`; `probe/effective_rank`;
    `probe/linear_accuracy` and `probe/knn_accuracy`; and what the objective measures. Nothing here changes the run.
    """

    def __init__(
        self, trainer: Pretrainer, train: Dataset, held_out: Dataset, config: ProbeConfig, seed: int,
        unreadable: Unreadable | None = None,
    ):  # fmt: skip
        self.trainer, self.config = trainer, config
        self._train, self._held_out = (
            Batches(
                dataset, size=min(config.batch_size, config.examples, len(dataset)), seed=seed + number, threads=0,
                unreadable=unreadable,
            )
            for number, dataset in enumerate((train, held_out))
        )  # fmt: skip

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Measure the model as it is now."""
        trainer = self.trainer
        trainer.model.eval()
        losses: dict[str, list[Tensor]] = {"probe/loss": [], "probe/trivial_loss": []}
        features: list[Tensor] = []
        labels: list[np.ndarray] = []
        with trainer.autocast():
            for number, example in enumerate(self._examples(self._held_out)):
                batch, size = trainer.to_device(example), len(example["frames"])
                drawn = trainer.draw(_MASKS + number, size)
                terms = dict(trainer.model(*trainer.objective.inputs(batch, drawn, slice(0, size))))
                for name in trainer.objective.apart:
                    if name in terms:
                        losses.setdefault(f"probe/loss/{name}", []).append(terms.pop(name))
                losses["probe/loss"].append(torch.stack(list(terms.values())).sum(0))
                losses["probe/trivial_loss"].append(trainer.objective.trivial_loss(batch))
                features += self._features(batch["frames"])
                labels += [example["label"]] if "label" in example else []
            batches = (trainer.to_device(example) for example in self._examples(self._held_out))
            found = trainer.objective.measures(batches)
        out = {key: float(torch.cat(values).mean()) for key, values in losses.items()}
        out |= {f"probe/{key}": value for key, value in found.items()}
        if features:
            test = torch.cat(features)
            out["probe/effective_rank"] = effective_rank(test)
            if labels:
                out |= self._accuracies(test, np.concatenate(labels))
        trainer.model.train()
        return out

    def _accuracies(self, test: Tensor, truth: np.ndarray) -> dict[str, float]:
        features: list[Tensor] = []
        labels: list[np.ndarray] = []
        with self.trainer.autocast():
            for example in self._examples(self._train):
                features += self._features(self.trainer.to_device(example)["frames"])
                labels.append(example["label"])
        known, answers = (torch.from_numpy(y).to(test.device) for y in (np.concatenate(labels), truth))
        given = torch.cat(features), known, test, answers
        with torch.enable_grad():
            return {"probe/linear_accuracy": linear_accuracy(*given), "probe/knn_accuracy": knn_accuracy(*given)}

    def _features(self, frames: Tensor) -> list[Tensor]:
        features = self.trainer.objective.represent(frames)
        return [] if features is None else [features.float()]

    def _examples(self, batches: Batches) -> Iterator[Example]:
        """At most one pass of at most as many examples as configured."""
        number = min(self.config.examples, len(batches.dataset)) // batches.size
        return (batches.batch(k) for k in range(number))
