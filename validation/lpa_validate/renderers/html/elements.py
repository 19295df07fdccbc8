"""Elements of a page. Text is escaped when the tree is written, so none can become markup."""

from collections.abc import Iterable, Sequence
from typing import Any
from xml.etree.ElementTree import Element, tostring

__all__ = ["Child", "document", "element", "number", "table"]

Child = Element | str | None

_HTML_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
"""Whatever got into the page all the same, a browser loads nothing for it and runs none of it."""


def element(tag: str, *children: Child, **attributes: Any) -> Element:
    """``element("td", "text", class_="right")``; a name's underscores become hyphens."""
    made = Element(
        tag, {name.strip("_").replace("_", "-"): _text(value) for name, value in attributes.items()}
    )
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child and len(made):
            made[-1].tail = (made[-1].tail or "") + _text(child)
        elif child:
            made.text = (made.text or "") + _text(child)
    return made


def table(head: Sequence[str], rows: Iterable[Sequence[Child]], **attributes: Any) -> Element:
    """A table with a heading per column; a table without rows is as good as none."""
    return element(
        "table",
        element("thead", element("tr", *(element("th", name) for name in head))),
        element("tbody", *(element("tr", *(element("td", cell) for cell in row)) for row in rows)),
        **attributes,
    )


def document(title: str, style: str, *body: Child) -> str:
    """The whole page."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_HTML_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", style),
        # A browser asks for an icon of its own accord.
        element("link", rel="icon", href="data:,"),
    )
    page = element("html", head, element("body", *body), lang="en")
    return "<!DOCTYPE html>\n" + tostring(page, encoding="unicode", method="html") + "\n"


def number(value: Any) -> float:
    """A number of a check's details, where infinities may stand as text; NaN for none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _text(value: Any) -> str:
    """What may stand in a page: no half of a surrogate pair, no control character."""
    kept = (c if c.isprintable() or c in "\n\t" else _named(c) for c in str(value))
    return "".join(kept)


def _named(character: str) -> str:
    return f"\\u{ord(character):04x}"
