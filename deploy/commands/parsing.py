"""How every command reads its arguments: a dataclass of its own, parsed by tyro; a mistake is one line."""

import difflib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import tyro
from tyro._errors import on_parse_error  # private, so pyproject.toml bounds the version

from deploy.commands.numbers import number_registry

HELP = ("-h", "--help")
_POSITIONAL: Any = tyro.conf.Positional
_MARKERS: Any = (
    tyro.conf.AvoidSubcommands,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.HelptextFromCommentsOff,
    tyro.conf.PositionalMetavarFromFieldName,
)
T = TypeVar("T")

OptionalPath = Annotated[Path | None, tyro.conf.DisallowNone, tyro.conf.arg(help_behavior_hint="(optional)")]
"""A path that may be left out."""


def several(name: str) -> Any:
    """Marks a positional `tuple[..., ...]` of which at least one must be given; `name`: of each, in --help."""
    return tyro.conf.arg(metavar=f"{name} [...]", help_behavior_hint="(required)")


def parse(command: type[T], arguments: Sequence[str], *, prog: str, example: str, default: T | None = None) -> T:
    """The arguments of the command `prog`.

    `command` is a dataclass: its docstring describes the command, its fields and their docstrings the options.
    `example` is shown at the end of --help, and when an argument is missing. `default` replaces the fields' defaults.
    ValueError: one line with what is wrong and what is allowed. SystemExit: --help was printed.
    """
    parsed, rest = parse_known(command, arguments, prog=prog, example=example, default=default)
    if rest:
        raise ValueError(f"{prog}: unexpected argument {rest[0]!r}; {prog} --help shows what it takes.")
    return parsed


def parse_known(
    command: type[T], arguments: Sequence[str], *, prog: str, example: str, default: T | None = None,
    others: Collection[str] = (),
) -> tuple[T, list[str]]:  # fmt: skip
    """As `parse`, and also returns the arguments that `command` does not take; `others`: the options allowed there."""
    _require_known(prog, arguments, [*option_names(command), *others, *HELP])

    def refuse(event: Any) -> None:
        if message := _refusal(event, prog, example):
            raise ValueError(message)

    try:
        with on_parse_error(refuse):
            parsed, rest = tyro.cli(
                command, args=arguments, prog=prog, default=tyro.MISSING_NONPROP if default is None else default,
                return_unknown_args=True, config=_MARKERS, registry=number_registry(),
            )  # fmt: skip
    except SystemExit as left:
        if not left.code:
            print(f"\nExample: {example}")
        raise
    for field in fields(command):  # type: ignore[arg-type]
        option = f"--{field.name}".replace("_", "-")
        if option in arguments and getattr(parsed, field.name) == ():
            raise ValueError(f"{prog} {option} needs a value; {prog} --help shows which.")
        if field.default is MISSING and getattr(parsed, field.name) == ():  # tyro takes an empty sequence for one given
            raise ValueError(_missing(prog, [field.name.upper()], example))
    return parsed, rest


def option_names(command: type, prefix: str = "") -> Iterator[str]:
    """The options of a dataclass, those of dataclasses in it included: `--learner.batch-size`."""
    hints = get_type_hints(command, include_extras=True)
    for field in fields(command):
        hint = hints[field.name]
        marks = getattr(hint, "__metadata__", ())
        kind = get_args(hint)[0] if marks else hint
        if is_dataclass(kind):
            unnamed = any(getattr(mark, "name", None) == "" for mark in marks)  # tyro.conf.arg(name="")
            yield from option_names(kind, prefix if unnamed else f"{prefix}{field.name}.")  # type: ignore[arg-type]
        elif _POSITIONAL not in marks:
            yield f"--{prefix}{field.name}".replace("_", "-")


def _require_known(prog: str, arguments: Sequence[str], known: Collection[str]) -> None:
    """ValueError names the nearest to an option that does not exist. Abbreviations are not options."""
    for argument in arguments:
        if argument == "--":
            return
        name = argument.partition("=")[0].replace("_", "-")
        if name.startswith("-") and name.lstrip("-")[:1].isalpha() and name not in known and not _is_number(argument):
            near = difflib.get_close_matches(name, dict.fromkeys(known), n=3)
            hint = f"nearest: {', '.join(near)}" if near else f"{prog} --help lists them all"
            raise ValueError(f"{prog} has no option {name}; {hint}.")


def _is_number(text: str) -> bool:
    """-inf, which looks like an option."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refusal(event: Any, prog: str, example: str) -> str:
    """Tyro's reason to refuse the arguments, in one line; empty if it is one that we do not know."""
    kind = type(event).__name__
    try:
        if kind == "MissingArgs":
            return _missing(prog, [_shown(context.arg) for context in event.missing_arguments], example)
        where = f"{prog} {_shown(event.argument)}" if getattr(event, "argument", None) else prog
        if kind == "BadValue":
            number = event.argument.lowered.nargs
            return f"{where} needs {'a value' if number == 1 else f'{number} values'}; {prog} --help shows which."
        if kind == "InvalidChoice":
            return f"{where}: {event.value!r} is not one of {', '.join(event.choices)}."
        if kind == "InstantiationFailure" and str(event.message).startswith("Could not find valid parse"):
            return f"{where} takes numbers separated by spaces, e.g. 2 3 4; {prog} --help shows more."
        if kind == "InstantiationFailure":
            return f"{where}: {event.message}" if event.argument else str(event.message)
    except AttributeError:  # another version of tyro; its own words then
        pass
    return ""


def _shown(argument: Any) -> str:
    name = str(argument.display_name())
    return name if name.startswith("-") else name.upper()


def _missing(prog: str, names: Sequence[str], example: str) -> str:
    return f"{prog} needs {' and '.join(names)}, e.g. {example}"
