"""Running sections over the files of a folder of reference vectors, and the report."""

import argparse
import json
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from tests.parity.check import KINDS, Check, Comparison

Sections = Mapping[str, Callable[[Check], None]]
"""What checks a file, by the start of its name."""


def check_arrays(file: str, arrays: Mapping[str, np.ndarray], sections: Sections) -> Check:
    """Run the section that `file` belongs to. A section that fails leaves its arrays uncovered."""
    check = Check(file, arrays)
    for start, section in sections.items():
        if file.startswith(start):
            try:
                section(check)
            except Exception as error:
                traceback.print_exc()
                failure = Comparison(file=file, name="(section)", kind="-", note=f"{type(error).__name__}: {error}")
                check.comparisons["(section)"] = failure
            break
    return check


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def line(c: Comparison) -> str:
    error = "-" if math.isinf(c.error) else f"{c.error:.1e}"
    verdict = "ok" if c.ok else "FAIL"
    extra = f"  {c.flips} sign flips" if c.flips else ""
    return f"{c.file:24} {c.name:56} {error:>8} {c.kind:>13} {c.tolerance:8.0e}  {verdict}{extra}  {c.note}".rstrip()


def summary(file: str, check: Check, outcome: Sequence[Comparison]) -> str:
    failed = [c for c in outcome if not c.ok]
    compared = f"{len(check.arrays)} arrays: {len(check.comparisons)} compared, {len(check.inputs_read)} inputs"
    return f"== {file}: {compared}, {len(failed)} failed" + "".join(f"\n     {line(c)}" for c in failed)


def worst(outcome: Sequence[Comparison]) -> dict[str, float]:
    """Largest error of each class."""
    errors = {kind: [c.error for c in outcome if c.kind == kind] for kind in KINDS}
    return {kind: max(values) for kind, values in errors.items() if values}


def run(
    name: str, what: str, sections: Sections, arguments: Sequence[str] | None, compiled: Sections | None = None
) -> int:  # fmt: skip
    """The command `python -m tests.parity.NAME`; returns its exit code. With `--compiled` it runs `compiled`."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.parity.{name}", description=what)
    parser.add_argument("--vectors", type=Path, required=True, help="folder of .npz files")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    if compiled:
        parser.add_argument("--compiled", action="store_true", help="with learner.compile; it needs a C++ compiler")
    options = parser.parse_args(arguments)
    if compiled and options.compiled:
        sections = compiled
    files = sorted(options.vectors.glob("*.npz"))
    if not files:
        print(f"{options.vectors} holds no .npz file; pass the folder that does.", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    everything, summaries, arrays = [], [], 0
    for path in files:
        check = check_arrays(path.name, load(path), sections)
        outcome = check.finish()
        for comparison in outcome:
            print(line(comparison))
        everything += outcome
        arrays += len(check.arrays)
        summaries.append(summary(path.name, check, outcome))
    print("\n".join(summaries))
    for kind, error in worst(everything).items():
        print(f"{kind:>13}: largest error {error:.1e}, tolerance {KINDS[kind].tolerance:.0e} {KINDS[kind].meaning}")
    failed = [c for c in everything if not c.ok]
    print(f"{arrays} arrays in {len(files)} files, {len(failed)} failed: {'FAIL' if failed else 'ok'}")
    if options.json:
        fields = ("file", "name", "kind", "error", "tolerance", "ok", "flips", "note")
        rows = [{name: getattr(c, name) for name in fields} for c in everything]
        for row in rows:
            row["error"] = row["error"] if math.isfinite(row["error"]) else None
        report = {"name": f"{name}_parity", "value": len(failed), "unit": "failed arrays", "ok": not failed,
                  "arrays": arrays, "files": len(files), "worst": worst(everything), "comparisons": rows}  # fmt: skip
        print(json.dumps(report))
    return 1 if failed else 0
