"""The parts of an agent that another agent can start with. Torch-free."""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, get_args

Part = Literal["encoder", "rssm", "decoder", "reward", "continuation", "policy", "value"]
PartName = Literal["world_model", "all", "encoder", "rssm", "decoder", "reward", "continuation", "policy", "value"]
"""A part, or several under one name."""

PARTS: tuple[Part, ...] = get_args(Part)
WORLD_MODEL = PARTS[:5]
_MORE_REWARDS = "more_rewards"
_FOLLOW = {"slow_value": "value", "return_scale": "value", _MORE_REWARDS: "reward"}
"""Modules that belong to a part of another name: slow critic, scale of returns, reward heads after the first."""

Shapes = Mapping[str, tuple[int, ...]]
"""Of parameters and buffers, by name."""


def parts_of(names: Collection[str]) -> tuple[Part, ...]:
    """The parts that `PartName`s stand for, each once, in the order of `PARTS`."""
    wanted = {"all": PARTS, "world_model": WORLD_MODEL}
    found = {part for name in names for part in wanted.get(name, (name,))}
    return tuple(part for part in PARTS if part in found)


def part_of(name: str) -> str:
    """The part that a parameter or buffer belongs to; for what belongs to none, such as a counter, no `Part`."""
    module = name.partition(".")[0]
    return _FOLLOW.get(module, module)


def networks_of(parts: Collection[Part]) -> tuple[str, ...]:
    """The fields of the model's configuration that determine the sizes of these parts."""
    return (*parts, *(["reward_heads"] if "reward" in parts else []))


def require_fit(own: Shapes, theirs: Shapes, parts: Collection[Part], where: str, sized: bool = False) -> None:
    """ValueError: `theirs`, from `where`, lacks one of `parts`, or has something of it in another shape than an agent
    with the shapes `own`; it names everything that differs, with both shapes, and the parts to leave out. Reward heads
    after the first may be absent there. `sized`: the agent's parts have been given other sizes than those there."""
    there = parts_of({part_of(name) for name in theirs} & {*PARTS})
    if absent := [part for part in parts if part not in there]:
        also = [part for part in parts if part in there]
        remedy = f"take what it has, --init-parts {' '.join(also or there)}, or " if there else ""
        raise ValueError(
            f"{where} has no {_listed(absent)}; nothing is loaded. {remedy[:1].upper()}{remedy[1:]}"
            f"{'name' if remedy else 'Name'} a run or a numbered checkpoint of it: one named best has only what acts."
        )
    heads = {name for name in own.keys() - theirs.keys() if name.partition(".")[0] == _MORE_REWARDS}
    names = sorted(name for name in (own.keys() | theirs.keys()) - heads if part_of(name) in parts)
    if differ := [name for name in names if own.get(name) != theirs.get(name)]:
        lines = [f"  {name}: {_shape(theirs.get(name))} there, {_shape(own.get(name))} here" for name in differ]
        bad = parts_of({part_of(name) for name in differ})
        rest = [part for part in parts if part not in bad]
        without = f"Leave out {_listed(bad)}: --init-parts {' '.join(rest)}." if rest else ""
        raise ValueError(
            "\n".join([f"{where} does not fit; nothing is loaded:", *lines, without or "No part fits: leave it out."])
            + (" Without --size and --model.* the parts that are taken have the sizes that they have there." * sized)
        )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
