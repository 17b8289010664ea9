"""Pages of the audit for people: one HTML file without scripts or outside resources, written piece by piece so that a long one needs no memory.

Whatever comes from clients is escaped, and what would steer a terminal or turn the direction of writing around is made visible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from config.printable import printable

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --pane: #f6f8fa; --bad: #a40e26; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0f1419; --ink: #e6e9ec; --soft: #a3adb8; --line: #39424d; --pane: #1a2129; --bad: #ff9aa5; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 3rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; } h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; }
p { margin: .35rem 0; } .soft { color: var(--soft); } .bad { color: var(--bad); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.5rem; background: var(--pane); border: 1px solid var(--line);
  border-radius: .25rem; padding: .75rem 1rem; margin: 1rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
td.tight { white-space: nowrap; } th { white-space: nowrap; overflow-wrap: normal; }
td { min-width: 6rem; } .wide:focus-visible { outline: 3px solid; }
@media print {
  :root { --ground: #fff; --ink: #000; --soft: #444; --line: #999; --pane: #fff; }
  body { max-width: none; padding: 0; font-size: 9pt; } h2 { break-after: avoid; } tr { break-inside: avoid; }
  thead { display: table-header-group; } .wide { overflow: visible; } td { min-width: 0; } th { white-space: normal; }
}
"""


def opening(title: str, subtitle: str = "") -> str:
    """The page up to its first heading."""
    below = f'<p class="soft">{text(subtitle)}</p>\n' if subtitle else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{text(title)}</h1>\n{below}</header>\n<main>\n"
    )


def heading(words: str) -> str:
    """A heading of the second rank."""
    return f"<h2>{text(words)}</h2>\n"


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph; `kind` is a class of the style: soft, bad."""
    return f"<p{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>{text(words)}</p>\n"


def facts(values: Mapping[str, object]) -> str:
    """Names and values."""
    return "<dl>\n" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>\n" for name, value in values.items()) + "</dl>\n"


def table_opening(columns: Iterable[str]) -> str:
    """A table up to its first row; `row` follows as often as there are rows, then TABLE_END."""
    heads = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    return f'<div class="wide" tabindex="0">\n<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n'


def row(cells: Iterable[object]) -> str:
    """One row; the first cell is not broken."""
    first, *rest = cells
    return f'<tr><td class="tight">{text(first)}</td>' + "".join(f"<td>{text(cell)}</td>" for cell in rest) + "</tr>\n"


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A whole table."""
    return table_opening(columns) + "".join(row(cells) for cells in rows) + TABLE_END


def text(value: object) -> str:
    """`value` as it may stand in a page."""
    return f"<bdi>{escape(printable(str(value)))}</bdi>" if not str(value).isascii() else escape(printable(str(value)))


TABLE_END = "</tbody>\n</table>\n</div>\n"
CLOSING = "</main>\n</body>\n</html>\n"
