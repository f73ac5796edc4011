"""What operators do, in literal numbers."""

import pytest
import torch

from learner.cost.counting import BEFORE, Counting, Layout, total
from world_models.stages import begin, watched


def test_a_product_has_two_operations_for_each_multiply_add() -> None:
    a, b = torch.ones(2, 3), torch.ones(3, 4)
    work = Counting().count(lambda: a @ b)[BEFORE]
    assert (work.calls, work.kernels, work.flops) == (1, 1, 2 * 2 * 3 * 4)
    assert work.nbytes == 4 * (6 + 12 + 8)
    (kind,) = work.kinds
    assert kind.operator is torch.ops.aten.mm.default
    assert kind.arguments[0] == (Layout((2, 3), (3, 1), torch.float32), Layout((3, 4), (4, 1), torch.float32))


def test_gradients_of_a_product_take_two_more() -> None:
    a, b = torch.ones(2, 3, requires_grad=True), torch.ones(3, 4, requires_grad=True)
    work = total(Counting().count(lambda: (a @ b).sum().backward()).values())
    assert work.flops == 3 * 48


def test_a_view_is_a_call_but_moves_nothing() -> None:
    x = torch.ones(4, 6)
    work = Counting().count(lambda: x.t().reshape(6, 4)[1:])[BEFORE]
    assert work.calls >= 2 and work.kernels == 0 and work.nbytes == 0


def test_work_belongs_to_the_stage_that_has_begun() -> None:
    x = torch.ones(8)

    def run() -> None:
        x.add_(1)
        begin("first")
        x.mul_(2)
        x.mul_(2)
        begin("second")
        begin("third")
        x.add_(1)

    assert {name: work.calls for name, work in Counting().count(run).items()} == {BEFORE: 1, "first": 2, "third": 1}


def test_memory_is_what_lives_at_the_same_time() -> None:
    counting = Counting()
    with counting:
        kept = torch.ones(1000)
        for _ in range(3):
            torch.ones(500).add_(kept[:500])
        assert (counting.memory.now, counting.memory.peak) == (4000, 6000)
        whole = kept.view(10, 100)
        del kept
        assert counting.memory.now == 4000, "a view keeps it"
        del whole
    assert counting.memory.now == 0


def test_what_has_not_been_touched_for_longer_than_a_cache_lasts_comes_from_afar() -> None:
    counting = Counting(cache=10_000)
    with counting:
        x, y = torch.zeros(1000), torch.zeros(1000)
    assert counting.count(lambda: x.add_(y))[BEFORE].far_bytes == 0
    with counting:
        torch.zeros(10_000)
    assert counting.count(lambda: x.add_(1))[BEFORE].far_bytes == 4000
    assert counting.count(lambda: x.add_(1))[BEFORE].far_bytes == 0


def test_stages_have_one_watcher() -> None:
    seen: list[str] = []
    begin("unseen")
    with watched(seen.append):
        begin("seen")
        with pytest.raises(RuntimeError, match="watched already"), watched(print):
            pass
        begin("still seen")
    begin("unseen")
    assert seen == ["seen", "still seen"]
