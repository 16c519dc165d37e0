"""Parts of a page of HTML: all text is escaped, pictures stand in the page, nothing is loaded from elsewhere."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Section", "code", "document", "folded", "group", "items", "paragraph", "picture", "table"]

Section = tuple[str, Sequence[str]]
"""A heading, and parts that stand under it."""
KINDS = {"png": "image/png", "svg": "image/svg+xml", "jpg": "image/jpeg"}
SAFE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a browser may do with the page: no scripts, no requests."""
STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; margin: 0 auto; max-width: 1100px; padding: 1rem 1.5rem; }
h1 { font-size: 1.7rem; overflow-wrap: anywhere; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h3 { margin-bottom: .3rem; overflow-wrap: anywhere; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; }
figure { margin: 1rem 0; } figcaption, caption { font-size: .9rem; opacity: .85; text-align: left; }
img { max-width: 100%; background: white; border: 1px solid var(--line); }
.scroll { overflow: auto; max-height: 40rem; border: 1px solid var(--line); }
.scroll img { max-width: none; border: 0; }
.beside { display: flex; flex-wrap: wrap; gap: 0 1.5rem; } .beside figure { max-width: 100%; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-size: .92rem; }
tr:nth-child(even) td { background: var(--soft); }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; overflow-wrap: anywhere; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { overflow-x: auto; background: var(--soft); padding: .8rem; font-size: .85rem; }
summary { cursor: pointer; padding: .3rem 0; }
.pixels img { image-rendering: pixelated; }
""".strip()
_NUMBER = re.compile(r"[-+−]?[\d.]+(e[-+]?\d+)?( ?%)?( ± [\d.]+)?|nan|inf", re.IGNORECASE)
_SLUG = re.compile(r"[^a-z0-9]+")


def document(title: str, sections: Iterable[Section], about: str) -> str:
    """A page: title, links to the sections, the sections.

    Args:
        title: also of the window.
        sections: those without parts are left out; one without a heading stands before the links.
        about: a line at the foot.
    """
    kept = [(heading, parts) for heading, parts in sections if parts]
    links = "".join(f'<li><a href="#{_slug(one)}">{escape(one)}</a></li>' for one, _ in kept if one)
    head = [parts for heading, parts in kept if not heading]
    body = [
        f'<section aria-labelledby="{_slug(heading)}"><h2 id="{_slug(heading)}">{escape(heading)}</h2>\n'
        + "\n".join(parts)
        + "</section>"
        for heading, parts in kept
        if heading
    ]
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{SAFE}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style></head><body>",
        f"<header><h1>{escape(title)}</h1></header>",
        *("\n".join(parts) for parts in head),
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>',
        "<main>",
        *body,
        "</main>",
        f"<footer><p>{escape(about)}</p></footer>",
        "</body></html>",
    ]
    return "\n".join(lines) + "\n"


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def items(lines: Iterable[str]) -> str:
    """A list."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def code(text: str) -> str:
    """Text as it stands in a file."""
    return f"<pre><code>{escape(text)}</code></pre>"


def folded(summary: str, *parts: str) -> str:
    """Parts that are shown when their heading is clicked."""
    return f"<details><summary>{escape(summary)}</summary>\n" + "\n".join(parts) + "</details>"


def group(heading: str, *parts: str, beside: bool = False) -> str:
    """Parts under a small heading; ``beside`` each other where there is room."""
    inner = "\n".join(parts)
    title = f"<h3>{escape(heading)}</h3>\n" if heading else ""
    return f'{title}<div class="beside">{inner}</div>' if beside else f"{title}{inner}"


def picture(data: bytes, kind: str, alt: str, caption: str = "", look: str = "") -> str:
    """A picture that stands in the page.

    Args:
        data: a file of it.
        kind: ``png``, ``svg`` or ``jpg``.
        alt: what it shows, for those who do not see it.
        caption: under it.
        look: ``scroll``: not made smaller, in a box that scrolls; ``pixels``: enlarged without smoothing.
    """
    image = f'<img alt="{escape(alt)}" src="data:{KINDS[kind]};base64,{b64encode(data).decode()}">'
    if look == "scroll":  # reached by the keyboard too
        image = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(alt)}">{image}</div>'
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    name = f' class="{look}"' if look == "pixels" else ""
    return f"<figure{name}>{image}{below}</figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table whose first column names the rows, without columns that are empty in every row; empty without rows."""
    rows = [list(row) for row in rows]
    kept = [index for index in range(len(head)) if index == 0 or any(row[index] for row in rows)]
    if not rows:
        return ""
    numbers = {
        index for index in kept if all(not row[index] or _NUMBER.fullmatch(row[index]) for row in rows) and index
    }
    look = {index: ' class="n"' if index in numbers else "" for index in kept}
    top = "".join(f'<th scope="col"{look[index]}>{escape(head[index])}</th>' for index in kept)
    lines = [
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td{look[index]}>{escape(row[index])}</td>" for index in kept[1:])
        + "</tr>"
        for row in rows
    ]
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead>\n<tbody>'
        + "\n".join(lines)
        + "</tbody></table></div>"
    )


def _slug(text: str) -> str:
    return _SLUG.sub("-", text.lower()).strip("-")
