"""`nexus pretrain`: train an encoder or a world model on images or clips."""

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
    "genie": Command(
        "deploy.commands.pretraining.genie", "Genie, a world to play in, on clips: the next three in turn"
    ),
    "genie-tokenizer": Command("deploy.commands.pretraining.genie_tokenizer", "Genie's video tokenizer"),
    "genie-latent-action": Command("deploy.commands.pretraining.genie_latent_action", "Genie's latent action model"),
    "genie-dynamics": Command("deploy.commands.pretraining.genie_dynamics", "Genie's dynamics"),
    "latent": Command("deploy.commands.pretraining.latent", "a latent world model, end to end, on clips with actions"),
}
EXAMPLES = (
    "nexus pretrain ijepa --data pictures --logdir runs/ijepa",
    "nexus pretrain vjepa2 --data redis://host-a,redis://host-b --logdir runs/vjepa2",
    "nexus pretrain vjepa2-ac --data runs/walker --encoder runs/vjepa2 --logdir runs/ac",
    "nexus pretrain genie --data generated:block_world --logdir runs/world",
    "nexus pretrain latent --data generated:two_room --logdir runs/rooms",
)


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return dispatch("nexus pretrain", arguments, COMMANDS, DESCRIPTION, EXAMPLES)
