"""Which subcommand a command line names."""

import difflib
from collections.abc import Mapping, Sequence
from importlib import import_module

from deploy.exit_codes import MISUSED


def dispatch(prog: str, arguments: Sequence[str], commands: Mapping[str, str], description: str) -> int:
    """The exit code of `run` in the module of the subcommand that `arguments` begin with; ValueError: there is none.

    `commands`: the module of each. Only the one that is named is imported, since most need PyTorch or matplotlib.
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
