"""Contents and health of a stored replay: collected from its shards as plain numbers, shown as a table."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from replay.byte_size import byte_size
from replay.counted import counted
from replay.reading.episodes import Found, episodes
from replay.reading.reader import Reader
from replay.step import FLAGS, Schema

_MARKS = {True: "[green]good[/]", None: "[yellow]note[/]", False: "[bold red]bad [/]"}
SCAN_BYTES = 256 << 20
"""Bytes of rows read for episodes and versions, unless all are requested."""


def inspect(
    readers: Sequence[Reader], *, verify: bool = True, everything: bool = False, down: Sequence[str] = ()
) -> dict[str, Any]:
    """A JSON-ready report: `shards`, their `total`, `schema`, `episodes`, `versions`, `healthy` and `warnings`.

    `verify` reads everything that has a checksum, `everything` reads all steps for the episodes; `down` holds messages
    about shards that could not be opened.
    """
    contents = _contents(readers, everything)  # first, since reading also checks, which counts for the health
    shards = [_shard(reader, verify) for reader in readers]
    schema = readers[0].schema
    total = {
        key: sum(shard[key] for shard in shards)
        for key in ("streams", "steps", "items", "gb", "max_gb", "inserted", "evicted", "stale")
        if all(key in shard for shard in shards)
    }
    total["overhead"] = _overhead(schema, total)
    report = {
        "shards": shards, "total": total, "length": readers[0].length,
        "age": sum(shard["age"] * shard["items"] for shard in shards) / max(1, total["items"]),
        "schema": {
            part: {
                key: {"dtype": str(field.dtype), "shape": list(field.shape), "bytes": field.nbytes}
                for key, field in getattr(schema, part).items()
            }
            for part in ("fields", "latents")
        },
        "step_bytes": schema.nbytes,
        **contents,
        "warnings": [*down],
    }  # fmt: skip
    if odd := [reader.where for reader in readers if reader.schema != schema or reader.length != readers[0].length]:
        report["warnings"].append(f"{odd[0]} has another schema or sequence length than {readers[0].where}")
    findings = [finding["good"] for shard in shards for finding in shard["health"]]
    report["healthy"] = False not in findings and not report["warnings"]
    return report


def _shard(reader: Reader, verify: bool) -> dict[str, Any]:
    health = [finding._asdict() for finding in reader.health(verify)]
    streams, facts = reader.streams(), reader.facts()
    shard: dict[str, Any] = {
        "where": reader.where, "kind": reader.kind, "streams": len(streams),
        "steps": sum(map(len, streams.values())), "age": facts["items"] / 2, **facts,
    }  # fmt: skip
    shard["overhead"] = _overhead(reader.schema, shard)
    return shard | {"health": health}


def _overhead(schema: Schema, counts: dict[str, Any]) -> float | None:
    """Bytes stored beyond the steps' values, as a fraction of these; None if there are no steps. Lost latents (`stale`)
    take none."""
    raw = counts["steps"] * sum(field.nbytes for field in schema.all.values())
    raw -= counts.get("stale", 0) * sum(field.nbytes for field in schema.latents.values())
    return counts["gb"] * 1e9 / raw - 1 if raw else None


def _contents(readers: Sequence[Reader], everything: bool) -> dict[str, Any]:
    """Episodes and policy versions, from all steps or from the newest of each stream."""
    streams = [reader.streams() for reader in readers]
    steps = sum(len(steps) for some in streams for steps in some.values())
    each = max(1, SCAN_BYTES // readers[0].schema.nbytes // max(1, sum(map(len, streams))))
    if everything or steps <= each * sum(map(len, streams)):
        tails, looked = streams, steps
    else:
        tails = [{stream: steps[-each:] for stream, steps in some.items()} for some in streams]
        looked = sum(len(steps) for some in tails for steps in some.values())
    out: dict[str, Any] = {"looked_at": looked, "episodes": None, "versions": None}
    if not set(FLAGS) <= set(readers[0].schema.fields):
        return out
    found, scores, lengths, versions = Found(), [], [], []
    for reader, some in zip(readers, tails, strict=True):
        for episode in episodes(reader, found, some):
            scores.append(episode.score)
            lengths.append(episode.length - 1)
            if "version" in episode.rows:
                versions += [int(episode.rows["version"].min()), int(episode.rows["version"].max())]
        versions += _ends(reader)
    if scores:
        out["episodes"] = {
            "whole": found.whole, "running": found.running, "headless": found.headless if looked == steps else None,
            "abandoned": found.abandoned, "mean_return": float(np.mean(scores)), "min_return": min(scores),
            "max_return": max(scores), "mean_length": float(np.mean(lengths)),
        }  # fmt: skip
    if versions:
        out["versions"] = [min(versions), max(versions)]
    return out


def _ends(reader: Reader) -> list[int]:
    """The policy versions of each stream's first and last steps."""
    if "version" not in reader.schema.fields:
        return []
    ends: list[int] = []
    for stream, steps in reader.streams().items():
        for part in (steps[:64], steps[-64:]):
            try:
                version = reader.read(stream, part.start, len(part))["version"] if part else np.empty(0, np.int32)
            except ValueError:  # evicted in the meantime
                continue
            ends += [int(version.min()), int(version.max())] if len(version) else []
    return ends


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report for people."""
    shards, total = report["shards"], report["total"]
    for kind in dict.fromkeys(shard["kind"] for shard in shards):
        console.print(
            f"{kind}: {_common([shard['where'] for shard in shards if shard['kind'] == kind])}", soft_wrap=True
        )
    console.print()
    full = any(shard.get("max_gb") for shard in shards)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("shard", "streams", "steps", "items", "size", *(["at most"] if full else []), "overhead", "mean age"):
        table.add_column(name, justify="left" if name == "shard" else "right", no_wrap=True)
    for row in [*shards, *([{"where": "all", "age": report["age"], **total}] if len(shards) > 1 else [])]:
        table.add_row(
            _short(row["where"]), f"{row['streams']:,}", f"{row['steps']:,}", f"{row['items']:,}",
            byte_size(row["gb"] * 1e9),
            *([byte_size(row["max_gb"] * 1e9) if "max_gb" in row else ""] if full else []),
            "" if row["overhead"] is None else f"{row['overhead']:+.1%}", counted(round(row["age"]), "step"),
        )  # fmt: skip
    console.print(table)
    console.print()
    keys = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("key", "dtype", "shape", "bytes a step", ""):
        keys.add_column(name, justify="right" if name == "bytes a step" else "left")
    for part, what in (("fields", ""), ("latents", "latent, refreshed by the learner")):
        for key, field in report["schema"][part].items():
            keys.add_row(key, field["dtype"], str(field["shape"]), f"{field['bytes']:,}", what)
    console.print(keys)
    console.print(f"{report['step_bytes']:,} bytes a step as stored, sequences of {report['length']} steps\n")
    console.print(_sentence(report, total["steps"]))
    if written := [shard["newest"] for shard in shards if shard.get("newest")]:
        console.print(f"written {_ago(max(written))} ago" + _since(shards))
    console.print()
    findings = [{"good": False, "text": text, "name": ""} for text in report["warnings"]]
    for shard in shards:
        name = f"{_short(shard['where'])}: " if len(shards) > 1 else ""
        findings += [finding | {"name": name} for finding in shard["health"]]
    for finding in findings:
        console.print(_MARKS[finding["good"]], end="  ")
        console.print(f"{finding['name']}{finding['text']}", highlight=False, markup=False, soft_wrap=True)


def _common(places: Sequence[str]) -> str:
    """The places of several shards, shortened to their common folder."""
    folders = {str(Path(place).parent) for place in places if "://" not in place}
    alike = len(places) > 1 and len(folders) == 1 and not any("://" in place for place in places)
    return f"{folders.pop()} ({counted(len(places), 'shard')})" if alike else ", ".join(places)


def _short(place: str) -> str:
    return place if "://" in place else Path(place).name


def _sentence(report: dict[str, Any], steps: int) -> str:
    newest = f" in the newest {counted(report['looked_at'], 'step')} (--all reads all)"
    part = "" if report["looked_at"] == steps else newest
    found = report["episodes"]
    if found is None:
        text = f"no whole episode{part}"
    else:
        text = (
            f"{counted(found['whole'], 'whole episode')}{part}: return {found['mean_return']:,.4g} on average, "
            f"{found['min_return']:,.4g} to {found['max_return']:,.4g}; {found['mean_length']:,.4g} steps"
        )
        rest = Found(running=found["running"], headless=found["headless"] or 0, abandoned=found["abandoned"]).describe()
        text += f"\nand parts of others: {rest}" if rest else ""
    if report["versions"]:
        low, high = report["versions"]
        text += f"\npolicy versions {low:,} to {high:,}"
    return text


def _since(shards: Sequence[dict[str, Any]]) -> str:
    oldest = [shard["oldest"] for shard in shards if shard.get("oldest")]
    return f", the oldest part {_ago(min(oldest))} ago" if oldest else ""


def _ago(when: float) -> str:
    seconds = max(0.0, time.time() - when)
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return counted(round(seconds), "second")
