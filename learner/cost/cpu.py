"""What operators take on this CPU, each measured alone for moments."""

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from learner.cost.counting import Kind, Layout, Work

SECONDS = 2.0
"""Of measuring the operators of one update."""
LARGEST = 2e9
"""Floating-point operations of a measured call: a longer product is measured with its longest sides halved."""
MOST = 1 << 27
"""Bytes of a measured call."""
CACHE = 8 << 20  # where the system does not say
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")

Cut = tuple[tuple[int, int], ...]
"""Axes of the same length, each as argument and axis from the end."""
_CUTS: dict[Any, tuple[Cut, ...]] = {
    torch.ops.aten.mm.default: (((0, -2),), ((0, -1), (1, -2)), ((1, -1),)),
    torch.ops.aten.bmm.default: (((0, -3), (1, -3)), ((0, -2),), ((0, -1), (1, -2)), ((1, -1),)),
    torch.ops.aten.addmm.default: (((1, -2), (0, -2)), ((1, -1), (2, -2)), ((2, -1), (0, -1))),
    torch.ops.aten.baddbmm.default: (
        ((1, -3), (2, -3), (0, -3)), ((1, -2), (0, -2)), ((1, -1), (2, -2)), ((2, -1), (0, -1)),
    ),
    torch.ops.aten.convolution.default: (((0, -4),),),
    torch.ops.aten.convolution_backward.default: (((0, -4), (1, -4)),),
}  # fmt: skip


def cache_bytes() -> int:
    """What one core can keep near: its own last cache and its share of one that cores share."""
    most = 0
    for index in CACHES.glob("index*"):
        try:
            size, unit = (text := (index / "size").read_text().strip())[:-1], text[-1]
            sharers = sum(_count(part) for part in (index / "shared_cpu_list").read_text().strip().split(","))
            most = max(most, int(size) * {"K": 1 << 10, "M": 1 << 20}[unit] // sharers)
        except (OSError, ValueError, KeyError):
            continue
    return most or CACHE


def _count(part: str) -> int:
    first, _, last = part.partition("-")
    return int(last or first) - int(first) + 1


def now() -> float:
    """CPU seconds of this thread if PyTorch computes on one, else seconds: a busy machine disturbs the former less."""
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def clocked(run: Callable[[], object], repeats: int = 3, choose: Callable[[list[float]], float] = median) -> float:
    """Seconds of a run: the median of `repeats`, fewer if one is long, after one that is not counted."""
    run()
    taken: list[float] = []
    while len(taken) < repeats and sum(taken) < 0.01 * repeats:
        begun = now()
        run()
        taken.append(now() - begun)
    return choose(taken)


def matmul_rate(dtype: torch.dtype = torch.float32, size: int = 1024) -> float:
    """Operations a second in a product of large matrices: the most that this CPU reaches."""
    a, b = (torch.ones(size, size, dtype=dtype) for _ in range(2))
    return 2 * size**3 / clocked(lambda: a @ b, 5, min)


def far_bandwidth() -> float:
    """Bytes a second that memory beyond the caches delivers beside the time that computing takes within them."""
    far, near = memory_rate(), memory_rate(32 << 10)
    return 1 / max(1 / far - 1 / near, 1e-12)


def memory_rate(count: int = 8 << 20) -> float:
    """Bytes a second that move as vectors of `count` floats are added up: by default, more than caches hold."""
    a, b, out = (torch.ones(count) for _ in range(3))
    return 3 * 4 * count / clocked(lambda: torch.add(a, b, out=out), 5)


class OperatorTimes:
    """Seconds of a call by its kind: measured for those that matter most; others are as fast, by the byte or operation,
    as measured ones of the same operator."""

    def __init__(self, work: Work, seconds: float = SECONDS):
        one = torch.ones(1)
        self.dispatch = clocked(lambda: torch.ops.aten.add.Tensor(one, one), 50)
        """Seconds of a call that computes nothing."""
        self.measured: dict[Kind, float] = {}
        rates: defaultdict[Any, list[float]] = defaultdict(list)
        begun = now()
        for kind in sorted(filter(_size, work.kinds), key=lambda kind: -work.kinds[kind] * _size(kind)):
            if now() - begun > seconds:
                break
            if (taken := self._measure(kind)) is not None:
                self.measured[kind] = taken
                rates[kind.operator].append(taken / _size(kind))
        every = [rate for of_one in rates.values() for rate in of_one]
        self._rates = {operator: median(found) for operator, found in rates.items()}
        self._usual = median(every) if every else 0.0
        known = sum(self.measured[kind] * count for kind, count in work.kinds.items() if kind in self.measured)
        self.share = known / max(
            known + sum(self.seconds(k) * n for k, n in work.kinds.items() if k not in self.measured), 1e-12
        )
        """Of the operators' time that rests on measured calls."""

    def seconds(self, kind: Kind) -> float:
        """Of one call beside its dispatch."""
        if kind in self.measured:
            return self.measured[kind]
        return self._rates.get(kind.operator, self._usual) * _size(kind)

    def _measure(self, kind: Kind) -> float | None:
        arguments, halvings = _shortened(kind)
        if kind.nbytes >> halvings > MOST:
            return None
        made = [_made(one) for one in arguments[0]], {key: _made(one) for key, one in arguments[1]}
        with torch.no_grad():
            taken = clocked(lambda: kind.operator(*made[0], **made[1]))
        return max(taken - self.dispatch, 0.0) * 2**halvings


def _size(kind: Kind) -> float:
    """Of a call, about in seconds: for the order in which calls matter, and for the rate of similar ones."""
    return kind.flops / 5e10 + kind.nbytes / 2e10


def _shortened(kind: Kind) -> tuple[Any, int]:
    """The arguments with long axes halved until the call is short enough, and the number of halvings."""
    arguments, flops, halvings = kind.arguments, kind.flops, 0
    cuts = _CUTS.get(kind.operator, ())
    positional = list(arguments[0])

    def length(cut: Cut) -> int:
        argument, axis = cut[0]
        return int(positional[argument].shape[axis])

    while flops > LARGEST and cuts and length(longest := max(cuts, key=length)) > 1:
        half = length(longest) // 2
        for argument, axis in longest:
            layout = positional[argument]
            if isinstance(layout, Layout) and len(layout.shape) >= -axis and layout.shape[axis] > 1:
                positional[argument] = _with_length(layout, axis, half)
        flops, halvings = flops // 2, halvings + 1
    return (positional, arguments[1]), halvings


def _with_length(layout: Layout, axis: int, length: int) -> Layout:
    """Dense, with the axes in the same order in memory; those that were repeated stay so."""
    shape = list(layout.shape)
    shape[axis] = length
    stride, step = [0] * len(shape), 1
    for i in sorted(range(len(shape)), key=lambda i: (layout.stride[i], -i)):
        if layout.stride[i]:
            stride[i], step = step, step * shape[i]
    return Layout(tuple(shape), tuple(stride), layout.dtype)


def _made(argument: Any) -> Any:
    """An argument with numbers: fractions, and zeros where they may be indices."""
    if isinstance(argument, Layout):
        reach = 1 + sum((n - 1) * step for n, step in zip(argument.shape, argument.stride, strict=True))
        flat = torch.zeros(reach if 0 not in argument.shape else 0, dtype=argument.dtype)
        if flat.is_floating_point():
            flat.uniform_(0.1, 0.9)
        return flat.as_strided(argument.shape, argument.stride)
    return [_made(one) for one in argument] if isinstance(argument, tuple) else argument
