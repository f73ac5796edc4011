"""Run the commands and programs of world_models' READMEs, in their order and in one folder, on tiny settings.

    python -m tests.world_models.readmes [README ...]     # in an empty folder; a line of JSON for each

A command is run as it is printed, with options appended that leave it little to do. Those that would take minutes are
only parsed (`parsed_only`).
"""

import contextlib
import io
import json
import re
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.integration.pretraining import write_clips, write_pictures
from tests.integration.runs import TINY

WORLD_MODELS = Path(__file__).parents[2] / "world_models"
ORDER = (
    "README.md",
    "dreamer/README.md",
    "jepa/README.md",
    "genie/README.md",
    "latent/README.md",
    "planning/README.md",
)
"""Later ones use what earlier ones have trained."""
PRETRAIN = [
    "--training.batch-size", "4", "--training.updates", "2", "--training.device", "cpu", "--training.threads", "1",
    "--probe.examples", "8", "--probe.batch-size", "4", "--log-every", "1",
]  # fmt: skip
GENIE = [
    "--tokenizer.model.patch", "8", "--latent-action.model.patch", "8", "--dynamics.model.dynamics.steps", "2",
]  # fmt: skip
PROBE = ["--examples", "60", "--test-examples", "20", "--device", "cpu"]


class Part(NamedTuple):
    """A command or a program of a README."""

    readme: str
    line: int
    text: str
    program: bool


def parts(readme: str) -> Iterator[Part]:
    """Indented lines that begin with `nexus`, continued ones joined, and blocks of Python."""
    text = (WORLD_MODELS / readme).read_text()
    found = re.finditer(r"^    (nexus (?:[^\n]*\\\n)*[^\n]*)$|^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for match in found:
        command, program = match.groups()
        line = text.count("\n", 0, match.start()) + 1
        yield Part(readme, line, program or command.replace("\\\n", " "), program is not None)


def words(command: str) -> list[str]:
    """Its arguments, without `nexus` and the comment."""
    return shlex.split(command, comments=True)[1:]


def parsed_only(arguments: Sequence[str]) -> str:
    """Why this command is only parsed; empty if it is run."""
    match arguments:
        case ["play", *_]:
            return "it serves a page until it is stopped"
        case ["train", task, *_] if task.startswith("dmc_"):
            return "it needs a renderer or makes networks that take minutes"
    return ""


def small(arguments: Sequence[str]) -> list[str]:
    """What to append so that the command has little to do."""
    match arguments:
        case ["train", *_]:
            few = ["--frames", "120", "--actor.planner-samples", "8", "--evaluation.episodes", "1"]
            return [*TINY[2:], "--mode", "inline", *few]
        case ["eval", *rest] if "--imagined" in rest:
            return ["--episodes", "1", "--starts", "2", "--rollouts", "1", "--horizon", "3"]
        case ["eval", path, *_]:
            return ["--clips", "4"] if "world" in path else ["--episodes", "1"]
        case ["plan", *_]:
            return ["--episodes", "1", "--samples", "8", "--iterations", "1", "--horizon", "2"]
        case ["probe", *rest] if "--head" in rest:
            return PROBE[2:]
        case ["probe", *rest] if "attentive" in rest:
            return [*PROBE, "--epochs", "1", "--depth", "1", "--lrs", "1e-3", "--decays", "0.01"]
        case ["probe", *_]:
            return [*PROBE, "--penalties", "0.1"]
        case ["look", path, *_]:
            return [] if path.endswith("cartpole") else ["--only", "pca", "--count", "2"]
        case ["pretrain", "genie", *_]:
            return [*PRETRAIN, *GENIE]
        case ["pretrain", *_]:
            return PRETRAIN
    raise ValueError(f"no tiny settings for nexus {' '.join(arguments)}; add them to small(), or say why not.")


def check(arguments: Sequence[str]) -> None:
    """Parse a command that is not run. ValueError: its arguments are wrong."""
    from deploy.commands.parsing import parse
    from deploy.commands.playing.play import Play
    from deploy.commands.train import parse_train

    command, *rest = arguments
    if command == "train":
        parse_train(rest)
    else:
        parse({"play": Play}[command], rest, prog=f"nexus {command}", example="")


def run(arguments: Sequence[str]) -> None:
    """RuntimeError: the command does not end with 0."""
    from deploy.cli import COMMANDS
    from deploy.commands.dispatch import dispatch

    if code := dispatch("nexus", [*arguments, *small(arguments)], COMMANDS, "", ()):
        raise RuntimeError(f"exit code {code}")


def given(readme: str) -> dict[str, Any]:
    """What a program takes for granted: frames and actions."""
    import torch

    size = 64 if readme.startswith("latent") else 32  # of the presets
    pictures = torch.zeros(2, 4, size, size, 3, dtype=torch.uint8)
    names = {"images": pictures[:, :1], "clips": pictures, "start": pictures[:, :2], "action": torch.zeros(2, 2)}
    actions = torch.zeros(2, 3, dtype=torch.int64) if readme.startswith("genie") else torch.zeros(2, 3, 2)
    return names | {"actions": actions}


def main() -> None:
    """Make the data that the READMEs name, and run everything."""
    write_pictures(Path("pictures"), 24)
    write_clips(Path("clips"))
    done: set[tuple[str, ...]] = set()
    for part in (part for readme in sys.argv[1:] or ORDER for part in parts(readme)):
        began, said, error, skipped = time.process_time(), io.StringIO(), "", ""
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                if part.program:
                    exec(compile(part.text, part.readme, "exec"), given(part.readme))
                elif (arguments := tuple(words(part.text))) in done:
                    skipped = "the same command has been run"
                elif skipped := parsed_only(arguments):
                    check(arguments)
                else:
                    done.add(arguments)
                    run(arguments)
        except (Exception, SystemExit):
            error = f"{said.getvalue()[-2000:]}\n{traceback.format_exc()}"
        seconds = round(time.process_time() - began, 1)  # of CPU
        found = part._asdict() | {"skipped": skipped, "seconds": seconds, "error": error}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
