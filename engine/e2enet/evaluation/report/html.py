"""The frame of a page with every picture inside it: no network, no other file."""

from __future__ import annotations

import base64
from collections.abc import Sequence

STYLE = """
:root { color-scheme: light; --ink: #1d2430; --faint: #5d6673; --line: #dfe3e8; }
body { margin: 0 auto; max-width: 70rem; padding: 2rem 1.5rem 4rem; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; background: #fff; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: 1.2rem;
  border-top: 1px solid var(--line); }
p, ul { max-width: 46rem; } .faint, figcaption { color: var(--faint); font-size: .9rem; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; display: block; }
.worst { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }
.worst figure { margin: 0; } .worst img { width: 100%; border-radius: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .8rem 0; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.all td { font-weight: 600; } small { color: var(--faint); font-weight: 400; }
.key { display: inline-block; width: 1.1rem; height: .25rem; vertical-align: .25rem;
  margin: 0 .35rem 0 .8rem; }
@media print { body { max-width: none; padding: 0; } h2 { break-after: avoid; }
  figure, table { break-inside: avoid; } }
"""


def document(title: str, parts: Sequence[str]) -> str:
    """A whole page; title and parts are HTML already."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def table(heads: Sequence[str], rows: Sequence[str], words: int = 1) -> str:
    """A table of HTML rows; the heads after the first `words` stand over numbers."""
    cells = "".join(
        f"<th>{head}</th>" if number < words else f'<th class="n">{head}</th>'
        for number, head in enumerate(heads)
    )
    body = "\n".join(rows)
    return f'<div class="scroll"><table>\n<tr>{cells}</tr>\n{body}\n</table></div>'


def figure(png: bytes, caption: str) -> str:
    """A picture with its caption (HTML)."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img alt="" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
