"""Operators that are measured: in their own shapes, or shortened ones."""

import pytest
import torch

from learner.cost.counting import BEFORE, Counting, Kind, Layout, Work
from learner.cost.cpu import LARGEST, OperatorTimes, _made, _shortened, _with_length, cache_bytes
from learner.cost.gpus import GPUS, named

FLOAT = torch.float32


def kind_of(*tensors: torch.Tensor, operator: torch._ops.OpOverload, flops: int) -> Kind:
    layouts = tuple(Layout(tuple(t.shape), t.stride(), t.dtype) for t in tensors)
    return Kind(operator, (layouts, ()), flops, sum(one.nbytes for one in layouts))


def test_a_long_product_is_shortened_along_its_longest_axes() -> None:
    a, b = torch.empty(1 << 16, 1024, device="meta"), torch.empty(512, 1024, device="meta").t()
    kind = kind_of(a, b, operator=torch.ops.aten.mm.default, flops=2 * (1 << 16) * 1024 * 512)
    (shortened, named_ones), halvings = _shortened(kind)
    assert shortened == [Layout((1024, 1024), (1024, 1), FLOAT), Layout((1024, 512), (1, 1024), FLOAT)]
    assert halvings == 6 and kind.flops >> halvings <= LARGEST and not named_ones


@pytest.mark.parametrize(
    ("operator", "shapes"),
    [
        (torch.ops.aten.addmm.default, [(4096,), (4096, 2048), (2048, 4096)]),
        (torch.ops.aten.addmm.default, [(4096, 4096), (4096, 2048), (2048, 4096)]),
        (torch.ops.aten.bmm.default, [(8, 4096, 512), (8, 512, 2048)]),
        (torch.ops.aten.baddbmm.default, [(8, 1, 2048), (8, 4096, 512), (8, 512, 2048)]),
    ],
)
def test_shortened_arguments_still_fit_each_other(
    operator: torch._ops.OpOverload, shapes: list[tuple[int, ...]]
) -> None:
    kind = kind_of(*(torch.empty(shape, device="meta") for shape in shapes), operator=operator, flops=70_000_000_000)
    (arguments, _), halvings = _shortened(kind)
    assert halvings == 6
    assert operator(*map(_made, arguments)).isfinite().all()


def test_a_convolution_is_shortened_by_its_images() -> None:
    x, w = torch.empty(64, 3, 64, 64, device="meta"), torch.empty(32, 3, 5, 5, device="meta")
    layouts = [Layout(tuple(t.shape), t.stride(), t.dtype) for t in (x, w)]
    rest = (None, (1, 1), (2, 2), (1, 1), False, (0, 0), 1)
    kind = Kind(torch.ops.aten.convolution.default, ((*layouts, *rest), ()), 4 * int(LARGEST), 0)
    (arguments, _), halvings = _shortened(kind)
    assert halvings == 2 and arguments[0].shape == (16, 3, 64, 64)
    assert torch.ops.aten.convolution.default(*map(_made, arguments)).shape == (16, 32, 64, 64)


def test_axes_keep_their_order_in_memory() -> None:
    assert _with_length(Layout((8, 6, 4), (1, 32, 8), FLOAT), -2, 3) == Layout((8, 3, 4), (1, 32, 8), FLOAT)
    assert _with_length(Layout((8, 6), (0, 1), FLOAT), -1, 3) == Layout((8, 3), (0, 1), FLOAT)


def test_every_operator_of_an_update_has_a_time_even_without_one_measured() -> None:
    a = torch.ones(64, 64)
    work = Counting().count(lambda: (a @ a).add_(a).tanh())[BEFORE]
    times, none = OperatorTimes(work), OperatorTimes(work, seconds=-1)
    assert len(times.measured) == 3 and times.share == 1.0
    assert all(times.seconds(kind) >= 0 for kind in work.kinds)
    assert not none.measured and all(none.seconds(kind) == 0 for kind in work.kinds)
    assert OperatorTimes(Work()).measured == {}


def test_the_cache_has_a_size() -> None:
    assert 1 << 16 < cache_bytes() < 1 << 31


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("NVIDIA H200", "h200"), ("NVIDIA A100-SXM4-80GB", "a100"), ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("NVIDIA L40S", "l40s"), ("NVIDIA L40", ""), ("NVIDIA RTX A1000", ""), ("NVIDIA A10", "a10"), ("cpu", ""),
    ],
)  # fmt: skip
def test_a_gpu_is_known_by_its_own_name(model: str, name: str) -> None:
    assert named(model) == name and (not name or name in GPUS)
