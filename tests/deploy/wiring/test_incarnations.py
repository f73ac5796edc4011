"""Numbers of actors' lives."""

from pathlib import Path

import pytest

from deploy.wiring.incarnations import Incarnations


def test_no_number_is_given_twice_whatever_a_life_knew(tmp_path: Path) -> None:
    given: dict[tuple[int, int], int] = {}
    for used in (-1, -1, 20, 4, -1):  # from streams that a shard has, which may be away, and from the checkpoint
        incarnations = Incarnations(tmp_path, used)
        for actor in (0, 1, 0):
            number = incarnations.next(actor)
            assert (actor, number) not in given and number > used, given
            given[actor, number] = used
            assert incarnations.last == max(number for _, number in given)


def test_a_damaged_number_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "incarnation").write_text("seven\n")
    with pytest.raises(ValueError, match=r"incarnation holds 'seven', expected the .* higher than any before"):
        Incarnations(tmp_path)
