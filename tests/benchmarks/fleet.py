"""`python -m tests.benchmarks.fleet PART [options]`: measurements of a run's processes, one module fleet_PART each."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path


def parts() -> list[str]:
    """Modules `fleet_PART` beside this one that can be run."""
    files = sorted(Path(__file__).parent.glob("fleet_*.py"))
    return [file.stem.removeprefix("fleet_") for file in files if "\ndef main(" in file.read_text()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the part that the first argument names with the others; returns its exit code."""
    part, *rest = list(sys.argv[1:] if arguments is None else arguments) or [""]
    names = parts()
    if part in ("-h", "--help"):
        print(f"usage: python -m tests.benchmarks.fleet {{{','.join(names)}}} [options]\n\n{__doc__}")
        return 0
    if part not in names:
        print(f"{part!r} is not a part of this benchmark; choose one of {', '.join(names)}.", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"tests.benchmarks.fleet_{part}").main(rest))


if __name__ == "__main__":
    sys.exit(main())
