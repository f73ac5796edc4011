"""A document of headings, sentences, tables and pictures, as Markdown and as one HTML file."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

_STYLE = """
:root { color-scheme: light dark; --line: #d9dce1; --faint: #6b7280; --head: #f4f5f7; }
@media (prefers-color-scheme: dark) { :root { --line: #3a3f47; --faint: #9aa1ab; --head: #23272d; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; } p { max-width: 46rem; }
div { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { background: var(--head); } th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; background: white; border-radius: 6px; } .none { color: var(--faint); }
"""
NO_DATA = "no data"


class Table(NamedTuple):
    """`rows` of as many cells as `header`."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Section(NamedTuple):
    """A heading and what stands below it."""

    title: str
    content: Sequence[str | Table | Path]
    """Paragraphs, tables, and pictures in the folder of the document."""


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The document as Markdown, with links to the pictures beside it."""
    parts = [f"# {title}"]
    for section in sections:
        parts.append(f"## {section.title}")
        for one in section.content:
            if isinstance(one, Table):
                rows = [one.header, ["---", *["---:"] * (len(one.header) - 1)], *one.rows]
                parts.append(
                    "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows)
                )
            else:
                parts.append(f"![{section.title}]({one.name})" if isinstance(one, Path) else one)
    return "\n\n".join(parts) + "\n"


def html(title: str, sections: Sequence[Section]) -> str:
    """One file that needs no other: the pictures are inside."""
    parts = [f"<h1>{escape(title)}</h1>"]
    for section in sections:
        parts.append(f"<h2>{escape(section.title)}</h2>")
        for one in section.content:
            if isinstance(one, Table):
                parts.append(_table(one))
            elif isinstance(one, Path):
                data = b64encode(one.read_bytes()).decode()
                parts.append(f'<img alt="{escape(section.title)}" src="data:image/png;base64,{data}">')
            else:
                parts.append(f"<p>{escape(one)}</p>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    return f"<div><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>"


def _cell(text: str) -> str:
    return f'<td class="none">{escape(text)}</td>' if text == NO_DATA else f"<td>{escape(text)}</td>"
