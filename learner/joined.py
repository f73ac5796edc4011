"""One update of a batch in parts, which pass through the model one after another or are with other processes.

Gradients, losses and metrics are those of the whole batch. Its parts are equal, so means are means of means.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from learner.batch import DeviceBatch
from world_models.dreamer.agent import Dreamer, Output
from world_models.dreamer.disagreement import Disagreement
from world_models.dreamer.draws import Draws
from world_models.dreamer.rssm import Sequence as States
from world_models.joining import Join
from world_models.stages import begin

Loss = Callable[[DeviceBatch, Draws, Join], Output]


class _UnknownError(Exception):
    """A part of the batch came to what the others must be asked for."""

    def __init__(self, own: Tensor):
        super().__init__()
        self.own = own


class _Known:
    """Joins with what has been found out before."""

    def __init__(self, known: Sequence[Tensor]):
        self.left = list(known)

    def __call__(self, part: Tensor) -> Tensor:
        if not self.left:
            raise _UnknownError(part)
        return self.left.pop(0)


def accumulate(
    agent: Dreamer, exploration: Disagreement | None, loss: Loss, batch: DeviceBatch, draws: Draws, parts: int,
    gather: Join,
) -> tuple[Output, list[dict[str, Tensor]]]:  # fmt: skip
    """Adds up the gradients of `parts` parts of a batch, of which one at a time is in memory.

    What looks across the batch is found out first, by a pass of all parts without gradients up to that point for each
    such thing; `gather` joins it with other processes. Returns losses and latents of all rows, without gradients or
    further values, and the metrics of each part.
    """
    if (rows := len(batch.continues)) % parts:
        raise ValueError(
            f"A batch of {rows} sequences has no {parts} equal parts; give a multiple of {parts}, or another "
            "LearnerConfig.accumulate."
        )
    normalisers = [*agent.return_scale.buffers(), *(exploration.buffers() if exploration else ())]
    before = [one.clone() for one in normalisers]

    def attempt(number: int, known: Sequence[Tensor]) -> Output:
        torch._foreach_copy_(normalisers, before)  # each attempt carries them on again
        return loss(batch.part(number, parts), draws.part(number, parts), _Known(known))

    def own(number: int, known: Sequence[Tensor]) -> Tensor:
        try:
            attempt(number, known)
        except _UnknownError as found:
            return found.own
        raise AssertionError(f"nothing looks across the batch after {len(known)} things that do")

    known: list[Tensor] = []
    for _ in range(1 + (exploration is not None)):
        with torch.no_grad():
            known.append(gather(torch.cat([own(number, known) for number in range(parts)])))
    outputs, metrics = [], []
    for number in range(parts):
        output = attempt(number, known)
        total = agent.total(output.losses)
        begin("backward")
        (total / parts).backward()
        metrics.append(metrics_of(output, total))
        outputs.append(without_gradients(output))
    return _together(outputs), metrics


def metrics_of(output: Output, total: Tensor) -> dict[str, Tensor]:
    """What is logged of a part of a batch."""
    metrics = {f"loss/{key}": loss.detach().mean() for key, loss in output.losses.items()}
    return metrics | {"loss/total": total.detach()} | output.metrics


def join_metrics(each: Sequence[dict[str, Tensor]], gather: Join) -> dict[str, Tensor]:
    """The metrics of the whole batch from those of its parts: means, least (`_min`), largest (`_max`) and deviations
    (`KEY_std` beside the mean KEY)."""
    names = list(each[0])
    rows = gather(torch.stack([torch.stack([one[name].float() for name in names]) for one in each]))  # [parts names]
    column = dict(zip(names, rows.unbind(1), strict=True))
    joined = {}
    for name, values in column.items():
        if name.endswith("_min"):
            joined[name] = values.amin()
        elif name.endswith("_max"):
            joined[name] = values.amax()
        elif name.endswith("_std"):
            mean = column[name.removesuffix("_std")]
            joined[name] = (values.square() + mean.square()).mean().sub(mean.mean().square()).clamp_min(0).sqrt()
        else:
            joined[name] = values.mean()
    return joined


def without_gradients(output: Output) -> Output:
    """Losses and latents alone, cut from the graph that keeps activations."""
    losses = {key: value.detach() for key, value in output.losses.items()}
    return Output(losses, {}, States(*(one.detach() for one in output.sequence)), {})


def _together(outputs: Sequence[Output]) -> Output:
    losses = {key: torch.cat([one.losses[key] for one in outputs]) for key in outputs[0].losses}
    states = States(*(torch.cat(parts) for parts in zip(*(one.sequence for one in outputs), strict=True)))
    return Output(losses, {}, states, {})
