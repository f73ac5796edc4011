"""`nexus play`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from deploy.commands.numbers import NotNegative, Positive, PositiveOrNone
from deploy.commands.parsing import OptionalPath, parse
from world_models.checkpoint_files import newest_model
from world_models.model_document import read_family

FAMILY = "genie"


@dataclass(frozen=True, kw_only=True)
class Play:
    """Serve a page on which people play worlds that a Genie generates, each their own, with the keyboard or by touch.

    A world begins with a few frames of the data, or with one picture, and goes on frame by frame with the action that
    the player chooses. A recording can be followed with its own actions, to see its true frames beside the world's.
    """

    path: Positional[Path]
    """The directory of nexus pretrain genie, of its run dynamics, or a checkpoint."""
    start: Annotated[str, arg(metavar="WHERE", help_behavior_hint="(default: the run's held-out data)")] = ""
    """What worlds begin with: a picture or a video, a folder of them, recordings (.npz), a replay, the logdir of a run,
    or generated:block_world. The largest square in the middle of each frame is resized to the model's size."""
    players: Positive = 8
    """Worlds that may be played at once."""
    idle: Positive = 600
    """Seconds after which a world that nobody plays ends."""
    steps: Annotated[PositiveOrNone, arg(help_behavior_hint="(default: the model's)")] = None
    """Steps in which a frame is sampled (MaskGIT): fewer are faster, and blur less well what is uncertain."""
    temperature: Annotated[float | None, arg(help_behavior_hint="(default: the model's)")] = None
    """Temperature of sampling; 0 takes the likeliest tokens."""
    seed: NotNegative = 0
    """Seed of the worlds."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; `auto`: on a GPU if there is one."""
    host: str = "127.0.0.1"
    """Address to listen on. Any but this machine's own needs a token, which the page asks for."""
    port: NotNegative = 6070
    """Port to listen on; 0 takes any free one."""
    token_file: OptionalPath = None
    """A file with the token, readable by its owner alone; it is made if it does not exist. Without it, a token for
    another --host is made and kept in ~/.local/state/nexus/monitor-token, as that of nexus monitor."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(Play, arguments, prog="nexus play", example="nexus play runs/world")
    folder = newest_model(given.path)
    family = read_family(folder)
    if family.name != FAMILY:
        raise ValueError(
            f"{folder} holds a model of family {family.name!r}, which generates no world; nexus play takes {FAMILY}, "
            "which nexus pretrain genie trains."
        )
    from deploy.monitor.access import is_loopback, make_token, token_file
    from deploy.monitor.serve import listen, serve
    from deploy.play.game import Game
    from deploy.play.recordings import read_recordings
    from deploy.play.server import application
    from learner.pretrain.pretrainer import choose_device
    from world_models.genie.dynamics import Sampling
    from world_models.genie.genie import Genie
    from world_models.loading import load_model

    model = load_model(folder, choose_device(given.device))
    assert isinstance(model, Genie), folder
    usual = model.config.dynamics
    sampling = Sampling(
        steps=given.steps or usual.steps,
        temperature=usual.temperature if given.temperature is None else given.temperature,
    )
    name = "/".join(given.path.absolute().parts[-2:])
    game = Game(name, model, read_recordings(model, folder, given.start, given.seed), sampling, given.seed)
    kept = given.token_file or (None if is_loopback(given.host) else token_file())
    token = make_token(kept) if kept else ""
    with listen(given.host, given.port) as listening:

        def ready(address: str) -> None:
            print(f"Nexus play: {address} (Ctrl-C ends it)")
            if kept:
                print(f"The page asks for the token in {kept}. Over a network, reach it through ssh -L or TLS.")
            sys.stdout.flush()

        serve(application(game, token, players=given.players, idle=given.idle), listening, token, ready)
    return 0
