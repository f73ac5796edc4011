"""What a run would need: parameters, memory, arithmetic and time of its updates, before anything is started."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psutil
import torch

from deploy.reports.cost.text import columns, number
from deploy.stored.forecast import forecast_replay
from deploy.wiring.build import build_agent, build_anchor, build_exploration
from deploy.wiring.config import RunConfig
from deploy.wiring.task import TaskSpaces
from learner.config import LearnerConfig
from learner.cost.counting import total
from learner.cost.cpu import cache_bytes
from learner.cost.gpus import GPUS, named
from learner.cost.prediction import Prediction, predict_cpu, predict_gpu
from learner.cost.rehearsal import Networks, Rehearsal, rehearse
from learner.cost.tiny import TinyUpdate
from learner.sequence import CONTEXT
from replay.byte_size import byte_size
from world_models.space import Spaces

CPU = "cpu"


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Of the updates of a run on `device`."""

    device: str
    rehearsal: Rehearsal
    prediction: Prediction
    memory: dict[str, int]
    """Bytes by what is in them, while an update runs: of the process on a CPU, of a GPU's memory on that."""
    beside: dict[str, int]
    """Bytes that the learner's process has beside them on its host."""

    @property
    def peak(self) -> int:
        """Bytes, at most."""
        return sum(self.memory.values())

    @property
    def updates_per_second(self) -> float:
        return 1 / self.prediction.seconds


def choose_device(config: RunConfig, name: str) -> str:
    """`name`, or what the run would choose: `cpu`, or the name of a GPU. ValueError: there is no such one."""
    if name:
        if name not in (CPU, *GPUS):
            raise ValueError(f"--dry-run-device {name} is not one of {', '.join((CPU, *GPUS))}.")
        return name
    asked = config.learner.device
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"learner.device={asked!r}, but torch sees no CUDA device; name the GPU: --dry-run-device {'|'.join(GPUS)}."
        )
    if asked == CPU or not torch.cuda.is_available():
        return CPU
    model = torch.cuda.get_device_name()
    if not (found := named(model)):
        raise ValueError(f"No rates of {model} are known; name a similar one: --dry-run-device {'|'.join(GPUS)}.")
    return found


def forecast(config: RunConfig, spaces: TaskSpaces, device: str) -> Forecast:
    """Count an update of the run and predict its time on `device`; a CPU is this machine's, and is measured. Of several
    processes of the learner it is that of one, with its share of the batch."""
    learner, on_gpu = config.learner, device != CPU
    learner = replace(learner, batch_size=learner.batch_size // learner.processes, processes=1)
    torch.set_num_threads(learner.threads or max(1, ((os.cpu_count() or 2) - 1) // config.learner.processes))
    tiny = TinyUpdate(config.model, spaces.action, learner)
    process = psutil.Process().memory_info().rss

    def networks() -> Networks:
        agent = build_agent(config, *spaces)
        return Networks(agent, build_exploration(config, spaces.action), build_anchor(config, agent))

    rehearsal = rehearse(networks, learner, on_gpu=on_gpu, cache=cache_bytes())
    overhead = tiny.seconds_a_call()
    if on_gpu:
        prediction = predict_gpu(rehearsal.stages, GPUS[device], overhead, learner.tf32)
    else:
        prediction = predict_cpu(rehearsal.stages, overhead)
    sampled = _sampled(learner, config.model.rssm.deter, spaces)
    parts = rehearsal.memory._asdict()
    host = {"process (Python, PyTorch, ...)": process, "sampled batch": sampled}
    beside = {"snapshots of the policy": 2 * 4 * rehearsal.acting, "batches sampled ahead": learner.prefetch * sampled}
    return Forecast(
        device=device, rehearsal=rehearsal, prediction=prediction, memory=parts if on_gpu else host | parts,
        beside=host | beside if on_gpu else beside,
    )  # fmt: skip


def _sampled(learner: LearnerConfig, deter: int, spaces: TaskSpaces) -> int:
    """Bytes of a batch as replay hands it over."""
    rows, length = learner.batch_size, CONTEXT + learner.batch_length * learner.consecutive

    def row(spaces: Spaces) -> int:
        return sum(one.dtype.itemsize * int(torch.Size(one.shape).numel()) for one in spaces.values())

    return rows * (length * (row(spaces.observation) + row(spaces.action) + 4 + 3) + 3 * deter)


def lines(config: RunConfig, spaces: TaskSpaces, found: Forecast) -> Sequence[str]:
    """The forecast as text."""
    rehearsal, learner = found.rehearsal, config.learner
    everything = total(rehearsal.stages.values())
    modules = [(name, number(count)) for name, count in rehearsal.parameters.items() if count]
    seconds = found.prediction.stages
    share = found.prediction.seconds
    work = [
        (name, f"{one.flops / 1e9:,.2f}", f"{one.nbytes / 1e9:,.3f}", f"{one.calls:,}", f"{seconds[name]:.4f}",
         f"{seconds[name] / share:.0%}")
        for name, one in rehearsal.stages.items()
    ]  # fmt: skip
    work.append(
        ("an update", f"{everything.flops / 1e9:,.2f}", f"{everything.nbytes / 1e9:,.3f}", f"{everything.calls:,}",
         f"{share:.4f}", "")
    )  # fmt: skip
    steps = learner.batch_size * learner.batch_length
    speed = f"{found.updates_per_second:,.3g} updates/s, {found.updates_per_second * steps:,.0f} replayed steps/s"
    return [
        f"{config.task}, batch {learner.batch_size} x {learner.batch_length}, {config.model.imagination_length} steps "
        f"imagined, on {_place(found.device, learner.processes)}. Nothing has been started or written.",
        "",
        f"Parameters: {number(rehearsal.trained)} trained; {number(rehearsal.acting)} act",
        *columns(modules),
        "",
        f"Memory of an update: {byte_size(found.peak)}{_of(found)}",
        *columns([(name.replace("_", " "), byte_size(size)) for name, size in found.memory.items()]),
        f"On the learner's host beside it: {byte_size(sum(found.beside.values()))}",
        *columns([(name, byte_size(size)) for name, size in found.beside.items()]),
        f"Replay: {forecast_replay(config, spaces)}",
        "",
        "Work of an update",
        *columns([("stage", "GFLOP", "GB moved", "operators", "seconds", ""), *work]),
        "",
        f"Expected: {speed}",
        *_pace(config, found),
        "Assumptions:",
        *(f"  {one}" for one in found.prediction.assumptions),
        "  memory is that of the tensors; what allocators keep and libraries use beside it comes on top, about a tenth",
        *(["  the exchange of gradients between processes is not counted"] if learner.processes > 1 else []),
    ]


def _place(device: str, processes: int) -> str:
    if processes > 1:
        return f"each of {processes} {'processes on this CPU' if device == CPU else device.upper()} with its share"
    return "this machine's CPU" if device == CPU else f"one {device.upper()}"


def _of(found: Forecast) -> str:
    if found.device == CPU:
        free = psutil.virtual_memory().available
        return f"; {byte_size(free)} is free{', which is too little' if found.peak > free else ''}"
    room = GPUS[found.device].memory
    return (
        f" of its {byte_size(room)}{', which is too little' if found.peak > room else ''}, the CUDA context not counted"
    )


def _pace(config: RunConfig, found: Forecast) -> list[str]:
    """What that is in environment steps and hours, if learning is what takes the time."""
    learner, ratio = config.learner, config.learner.train_ratio
    if not ratio or config.offline:
        return []
    steps = found.updates_per_second * learner.batch_size * learner.batch_length / ratio
    hours = config.frames / config.environment.action_repeat / steps / 3600
    return [
        f"At train ratio {ratio:g} that keeps up with {steps:,.3g} environment steps/s; {config.frames:,} frames take "
        f"at least {hours:,.1f} hours"
    ]
