"""Pictures of a report as inline SVG: taps in dB, operations in a strip, sizes as bars."""

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from lpa_validate.beside import Sibling
from lpa_validate.renderers.html.elements import element, number

__all__ = ["size_bars", "strip", "tap_plot"]

_HEIGHT, _TOP, _LEFT, _STEP = 200, 24, 56, 44
_LABELS = 130
_GRID_DB = 20
_CEILING_DB, _FLOOR_DB = 160.0, 0.0
"""What is drawn: float32 gives no more, and below nothing is alike."""

_WIDTH, _BAR = 720, 22


def tap_plot(taps: Sequence[Mapping[str, Any]], gate: float | None) -> Element:
    """PSNR of each tap in the order of the model; exact taps at the top, broken ones a cross."""
    values = [number(tap["psnr_db"]) for tap in taps]
    known = [value for value in values if math.isfinite(value)]
    high = min(_CEILING_DB, _GRID_DB * (1 + max([*known, gate or 0.0, _GRID_DB]) // _GRID_DB))
    width = _LEFT + _STEP * (len(taps) + 1)

    def height(decibels: float) -> float:
        kept = min(max(decibels, _FLOOR_DB), high)
        return round(_TOP + _HEIGHT * (1 - kept / high), 1)

    drawn = [_grid_line(step, height(step), width) for step in range(0, int(high) + 1, _GRID_DB)]
    if gate is not None:
        y = height(gate)
        drawn.append(element("line", x1=_LEFT, x2=width, y1=y, y2=y, class_="gate"))
        drawn.append(_label(f"gate of all logits {gate:g} dB", width - 4, y - 4, "end"))
    places = [_LEFT + _STEP * (index + 1) for index in range(len(taps))]
    finite = [(x, height(v)) for x, v in zip(places, values, strict=True) if not math.isnan(v)]
    drawn.append(element("polyline", points=" ".join(f"{x},{y}" for x, y in finite), class_="line"))
    for x, tap, value in zip(places, taps, values, strict=True):
        drawn += [_mark(x, height, tap, value), _tap_name(x, str(tap["name"]))]
    return _picture(drawn, width, _TOP + _HEIGHT + _LABELS, "PSNR of each tap in dB")


def strip(parts: Sequence[tuple[str, str, float]], title: str) -> Element:
    """Parts (class, what it is, share of 1) side by side; what has no share is not drawn."""
    drawn: list[Element] = []
    start = 0.0
    for kind, words, share in parts:
        width = _WIDTH * share
        if width <= 0:
            continue
        place = {"x": round(start, 2), "y": 0, "width": round(width, 2), "height": _BAR}
        drawn.append(element("rect", element("title", words), **place, class_=kind))
        start += width
    return _picture(drawn, _WIDTH, _BAR, title)


def size_bars(siblings: Sequence[Sibling]) -> Element:
    """A bar per bundle, the report's own marked."""
    largest = max((sibling.size for sibling in siblings), default=0) or 1
    drawn: list[Element] = []
    for index, sibling in enumerate(siblings):
        y = index * (_BAR + 8)
        width = round(0.5 * _WIDTH * sibling.size / largest, 1)
        kind = "own" if sibling.own else "other"
        drawn.append(element("rect", x=200, y=y, width=width, height=_BAR, class_=kind))
        drawn.append(_label(_short(sibling.folder, 28), 194, y + 15, "end"))
        words = f"{sibling.size / 1e6:.2f} MB, {sibling.target} {sibling.scheme}"
        drawn.append(_label(words, 206 + width, y + 15, "start"))
    return _picture(drawn, _WIDTH + 60, len(siblings) * (_BAR + 8), "sizes of the artifacts")


def _mark(x: float, height: Any, tap: Mapping[str, Any], value: float) -> Element:
    words = element("title", f"{tap['name']} ({tap['kind']}): {value:.1f} dB")
    if math.isnan(value):
        y = height(_FLOOR_DB)
        cross = f"M{x - 5},{y - 5}L{x + 5},{y + 5}M{x - 5},{y + 5}L{x + 5},{y - 5}"
        return element("path", words, d=cross, class_="broken")
    return element("circle", words, cx=x, cy=height(value), r=4, class_=f"tap {tap['kind']}")


def _tap_name(x: float, name: str) -> Element:
    y = _TOP + _HEIGHT + 14
    return element(
        "text", _short(name, 24), x=x, y=y, transform=f"rotate(-50 {x} {y})", text_anchor="end"
    )


def _grid_line(decibels: float, y: float, width: float) -> Element:
    line = element("line", x1=_LEFT, x2=width, y1=y, y2=y, class_="grid")
    return element("g", line, _label(f"{decibels:g} dB", _LEFT - 6, y + 4, "end"))


def _label(words: str, x: float, y: float, anchor: str) -> Element:
    return element("text", words, x=x, y=y, text_anchor=anchor)


def _short(name: str, letters: int) -> str:
    return name if len(name) <= letters else f"…{name[1 - letters :]}"


def _picture(drawn: Sequence[Element], width: float, height: float, title: str) -> Element:
    """An SVG of that many pixels; readers of the screen get the title."""
    size = {"viewBox": f"0 0 {width} {height}", "width": width, "height": height}
    return element("svg", *drawn, **size, role="img", aria_label=title)
