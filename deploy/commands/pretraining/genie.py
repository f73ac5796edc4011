"""`nexus pretrain genie`: all of Genie, one model after another."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated

from tyro.conf import arg

from deploy.commands.parsing import HELP, option_names, parse, parse_known
from deploy.commands.pretraining import genie_dynamics, genie_latent_action, genie_tokenizer
from deploy.commands.pretraining.start import Start, parse_pretrain
from deploy.wiring.pretrain_presets import SIZES, TINY

EXAMPLE = "nexus pretrain genie --data generated:block_world --logdir runs/world"
STAGES: dict[str, tuple[ModuleType, type]] = {
    "tokenizer": (genie_tokenizer, genie_tokenizer.GenieTokenizerCommand),
    "latent_action": (genie_latent_action, genie_latent_action.GenieLatentActionCommand),
    "dynamics": (genie_dynamics, genie_dynamics.GenieDynamicsCommand),
}
"""The folder of each stage, its command and what that command takes."""
PARTS = ("--tokenizer", "--latent-action")
"""Options of the last stage that are what the first ones have trained."""


@dataclass(frozen=True, kw_only=True)
class GenieCommand(Start):
    """Train Genie's tokenizer, latent action model and dynamics, in LOGDIR/tokenizer, LOGDIR/latent_action and
    LOGDIR/dynamics; the last is the whole world. The same command continues where it stopped.

    Options of nexus pretrain genie-tokenizer, genie-latent-action and genie-dynamics can be given to the stages that
    have them, e.g. --training.batch-size 32, or to one stage, e.g. --dynamics.training.updates 5000.

    With --real-actions there are no latent actions: the world is conditioned on the recorded ones.
    """

    preset: Annotated[str, arg(metavar=f"{{{','.join(SIZES['genie-tokenizer'])}}}")] = TINY
    """Named settings: `tiny`, for a CPU, `coinrun`, for one GPU, or `paper`, the published sizes."""
    logdir: str = "runs/genie"
    """Directory of the three runs."""
    real_actions: bool = False
    """Condition on the recorded actions instead of latent ones."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    prog = "nexus pretrain genie"
    if any(flag in arguments for flag in HELP):
        parse(GenieCommand, arguments, prog=prog, example=EXAMPLE)
    known = {name: set(option_names(command)) for name, (_, command) in STAGES.items()}
    prefixed = [f"--{name.replace('_', '-')}.{option[2:]}" for name in STAGES for option in known[name]]
    others = (*set().union(*known.values()), *prefixed)
    whole, rest = parse_known(GenieCommand, arguments, prog=prog, example=EXAMPLE, others=others)
    if not whole.data:
        raise ValueError(f"{prog} needs --data WHERE, e.g. {EXAMPLE}")
    if parts := [word for word in rest if word.partition("=")[0].replace("_", "-") in PARTS]:
        raise ValueError(
            f"{prog} trains its own {parts[0][2:]}; to use one that there is, take nexus pretrain genie-dynamics."
        )
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError(
            f"{prog} starts its own processes (--processes N); under torchrun, run nexus pretrain genie-tokenizer, "
            "genie-latent-action and genie-dynamics one after another."
        )
    stages = [name for name in STAGES if not (whole.real_actions and name == "latent_action")]
    folders = {name: str(Path(whole.logdir) / name) for name in stages}
    common = ["--data", whole.data, "--preset", whole.preset, "--processes", str(whole.processes)]
    words = {name: [*common, "--logdir", folders[name], *_options(rest, name, known)] for name in stages}
    for name in stages:
        module, command = STAGES[name]
        parse_pretrain(_method(name), command, words[name], module.EXAMPLE, fit=False)
    words["dynamics"] += ["--tokenizer", folders["tokenizer"]]
    words["dynamics"] += (
        ["--real-actions", "True"] if whole.real_actions else ["--latent-action", folders["latent_action"]]
    )
    again = shlex.join(["nexus", "pretrain", "genie", *arguments])
    for name in stages:
        print(f"nexus pretrain {_method(name)}")
        if code := STAGES[name][0].run(words[name], again):
            return int(code)
    print(f"Measure the world: nexus eval {whole.logdir}\nPlay in it:        nexus play {whole.logdir}")
    return 0


def _method(stage: str) -> str:
    return f"genie-{stage.replace('_', '-')}"


def _options(words: Sequence[str], stage: str, known: dict[str, set[str]]) -> list[str]:
    """Those of `words` that are meant for a stage: of an option, its name and the values that follow it."""
    out: list[str] = []
    takes = True
    for word in words:
        name = word.partition("=")[0].replace("_", "-")
        if name.startswith("--"):
            owner, _, option = name[2:].partition(".")
            if owner.replace("-", "_") in STAGES and option:
                takes = owner.replace("-", "_") == stage
                word = f"--{word[2:].partition('.')[2]}"
            else:
                takes = name in known[stage]
        if takes:
            out.append(word)
    return out
