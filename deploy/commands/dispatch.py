"""Run the subcommand that a command line names."""

import difflib
from collections.abc import Mapping, Sequence
from importlib import import_module

from deploy.exit_codes import MISUSED


def dispatch(prog: str, arguments: Sequence[str], commands: Mapping[str, str], description: str) -> int:
    """Run the subcommand that `arguments` begin with and return its exit code. ValueError: there is no such command.

    `commands` maps names to modules with a function `run`. Only the module of the given command is imported: most need
    PyTorch or matplotlib.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(description)
        print(f"Commands: {', '.join(commands)}. {prog} COMMAND --help describes one.")
        return 0 if arguments else MISUSED
    name, *rest = arguments
    if name not in commands:
        near = difflib.get_close_matches(name, commands, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(commands)}."
        raise ValueError(f"{prog} has no command {name!r}; {hint}")
    code: int = import_module(commands[name]).run(rest)
    return code
