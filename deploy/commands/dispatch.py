"""Run the subcommand that a command line names."""

import difflib
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NamedTuple

from deploy.exit_codes import MISUSED


class Command(NamedTuple):
    """A subcommand: a module with a function `run`, and a line of help."""

    module: str
    summary: str


def dispatch(
    prog: str, arguments: Sequence[str], commands: Mapping[str, Command], description: str, examples: Sequence[str]
) -> int:
    """Run the subcommand that `arguments` begin with and return its exit code. ValueError: there is no such command.

    Only the module of the given command is imported: most need PyTorch or matplotlib. `description` and `examples` are
    printed for --help, and without arguments.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: {prog} COMMAND ...\n\n{description}\n\nCommands:")
        for name, command in commands.items():
            print(f"  {name:<11}{command.summary}")
        print("\nExamples:", *examples, sep="\n  ")
        print(f"\n{prog} COMMAND --help lists the options of a command.")
        return 0 if arguments else MISUSED
    name, *rest = arguments
    if name not in commands:
        near = difflib.get_close_matches(name, commands, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(commands)}."
        raise ValueError(f"{prog} has no command {name!r}; {hint}")
    code: int = import_module(commands[name].module).run(rest)
    return code
