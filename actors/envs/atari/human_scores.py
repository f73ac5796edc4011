"""Scores of random play and of a human on the 26 games of Atari 100k, for human-normalised scores. Imports no emulator.

From Wang et al. 2016, "Dueling network architectures for deep reinforcement learning", as in the papers on Atari 100k.
"""

from typing import NamedTuple

_PREFIX = "atari_"


class Reference(NamedTuple):
    """Mean scores of one game."""

    random: float
    human: float


SCORES = {
    "alien": Reference(227.8, 7127.7),
    "amidar": Reference(5.8, 1719.5),
    "assault": Reference(222.4, 742.0),
    "asterix": Reference(210.0, 8503.3),
    "bank_heist": Reference(14.2, 753.1),
    "battle_zone": Reference(2360.0, 37187.5),
    "boxing": Reference(0.1, 12.1),
    "breakout": Reference(1.7, 30.5),
    "chopper_command": Reference(811.0, 7387.8),
    "crazy_climber": Reference(10780.5, 35829.4),
    "demon_attack": Reference(152.1, 1971.0),
    "freeway": Reference(0.0, 29.6),
    "frostbite": Reference(65.2, 4334.7),
    "gopher": Reference(257.6, 2412.5),
    "hero": Reference(1027.0, 30826.4),
    "jamesbond": Reference(29.0, 302.8),
    "kangaroo": Reference(52.0, 3035.0),
    "krull": Reference(1598.0, 2665.5),
    "kung_fu_master": Reference(258.5, 22736.3),
    "ms_pacman": Reference(307.3, 6951.6),
    "pong": Reference(-20.7, 14.6),
    "private_eye": Reference(24.9, 69571.3),
    "qbert": Reference(163.9, 13455.0),
    "road_runner": Reference(11.5, 7845.0),
    "seaquest": Reference(68.4, 42054.7),
    "up_n_down": Reference(533.4, 11693.2),
}


def reference(task: str) -> Reference | None:
    """The scores of random play and of a human in a task such as `atari_pong`; None if they are not known."""
    game = task.removeprefix(_PREFIX).replace("james_bond", "jamesbond")
    return SCORES.get(game) if task.startswith(_PREFIX) else None


def human_normalised(task: str, score: float) -> float | None:
    """`(score - random) / (human - random)`: 0 is random play, 1 the human. None if there is no score of a human."""
    game = reference(task)
    return (score - game.random) / (game.human - game.random) if game else None


def describe_human_normalised(task: str, score: float) -> list[str]:
    """The line about it in a summary: `no data` for other games, and none for other suites."""
    if not task.startswith(_PREFIX):
        return []
    value = human_normalised(task, score)
    return ["human-normalised score: no data" if value is None else f"human-normalised score: {value:.3f}"]
