"""`nexus pretrain`: train an encoder, or a predictor of actions' effects, on images or clips."""

from collections.abc import Sequence

from deploy.commands.dispatch import Command, dispatch

DESCRIPTION = (
    "Pretrain on images or clips: pictures, videos, recorded episodes, LeRobot or\nMinari datasets, or the replay of a "
    "run or of Redis servers."
)
COMMANDS = {
    "ijepa": Command("deploy.commands.pretraining.ijepa", "I-JEPA, on images"),
    "vjepa2": Command("deploy.commands.pretraining.vjepa2", "V-JEPA 2, on clips"),
    "vjepa2-ac": Command("deploy.commands.pretraining.vjepa2_ac", "V-JEPA 2-AC, on clips with actions"),
}
EXAMPLES = (
    "nexus pretrain ijepa --data pictures --logdir runs/ijepa",
    "nexus pretrain vjepa2 --data redis://host-a,redis://host-b --logdir runs/vjepa2",
    "nexus pretrain vjepa2-ac --data runs/walker --encoder runs/vjepa2 --logdir runs/ac",
)


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return dispatch("nexus pretrain", arguments, COMMANDS, DESCRIPTION, EXAMPLES)
