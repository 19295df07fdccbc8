"""The page: the verdict, words, taps, placement, size and time, then every check in full."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from lpa_validate.beside import Beside
from lpa_validate.renderers.html.elements import Child, document, element, table
from lpa_validate.renderers.html.plots import size_bars, strip, tap_plot
from lpa_validate.renderers.html.style import STYLE
from lpa_validate.renderers.html.words import words_table
from lpa_validate.renderers.text import check_lines, counted, figure_value, verdict_line
from lpa_validate.report import Check, Figure, Report

__all__ = ["render_html", "render_pages"]

_CHANGED = 200
"""Utterances shown word by word; the rest is in report.json."""

_VERDICT = {"pass": "pass", "fail": "fail", "unjudged": "not judged", "not_run": "not run"}
_FIGURES = ("figure", "value", "gate", "", "how")


def render_html(report: Report, beside: Beside) -> str:
    """One report as a page of its own."""
    return render_pages([(report, beside)])


def render_pages(found: Sequence[tuple[Report, Beside]]) -> str:
    """The reports one below the other, with links at the top where there are several."""
    title = ", ".join(dict.fromkeys(f"{report.model} for {report.target}" for report, _ in found))
    links = [
        element("a", f"{report.target}, {report.scheme.name}", " ", href=f"#report{index}")
        for index, (report, _) in enumerate(found)
    ]
    body = [element("nav", *links)] if len(links) > 1 else []
    body += [_article(index, *pair) for index, pair in enumerate(found)]
    return document(title or "no report", STYLE, *body)


def _article(index: int, report: Report, beside: Beside) -> Element:
    return element(
        "article",
        element("h1", f"{report.model} for {report.target}, {report.scheme.name}"),
        element("p", verdict_line(report), class_=f"verdict {report.verdict}"),
        element("p", beside.note) if beside.note else None,
        _facts(report),
        _overview(report),
        *_words(report),
        *_taps(report),
        *_placement(report),
        *_size(beside),
        *_time(beside),
        element("h2", "Checks"),
        *map(_check, report.checks),
        id=f"report{index}",
    )


def _facts(report: Report) -> Element:
    facts: dict[str, str] = {}
    if report.data is not None:
        data = report.data
        length = "" if data.seconds is None else f", {data.seconds:.1f} s"
        facts["data"] = f"{data.name}: {counted(data)}{length}, sha256 {data.sha256[:12]}"
        if data.missing_seconds:
            missing = sum(data.missing_seconds.values())
            facts["cut off"] = f"{missing:.1f} s are missing: {', '.join(data.missing_seconds)}"
        if report.normaliser is not None:
            facts["normaliser"] = f"{report.normaliser.name}/{report.normaliser.version}"
    if report.reference is not None:
        known = report.reference
        facts["reference"] = f"{known.kind} {known.name}, sha256 {known.sha256[:12]}"
    facts["artifacts"] = ", ".join(
        f"{name} (sha256 {digest[:12]})" for name, digest in report.artifacts.items()
    )
    facts["tools"] = ", ".join(f"{name} {version}" for name, version in report.environment.items())
    rows = [element("tr", element("th", key), element("td", text)) for key, text in facts.items()]
    return element("table", *rows, class_="facts")


def _overview(report: Report) -> Element:
    return table(
        ("check", "verdict", "reason"),
        [(check.name, _badge(check), check.reason) for check in report.checks],
    )


def _words(report: Report) -> Iterator[Element]:
    """WER of both models, and what changed, word under word."""
    yield element("h2", "Words")
    wer, difference = (_find(report, name) for name in ("wer", "wer-difference"))
    figures = [figure for check in (wer, difference) if check for figure in check.figures]
    if not figures:
        reasons = [check.reason for check in (wer, difference) if check and check.reason]
        yield element("p", "; ".join(dict.fromkeys(["not run", *reasons])))
        return
    yield _figures(figures)
    changed = difference.details.get("changed", ()) if difference else ()
    if difference is not None and not changed and difference.status != "not_run":
        yield element("p", "No transcript differs from the reference's.")
    for row in changed[:_CHANGED]:
        yield element("h3", row["id"])
        yield words_table(row["text"], row["reference"], row["artifact"])
    if len(changed) > _CHANGED:
        yield element("p", f"and {len(changed) - _CHANGED} more in report.json")


def _taps(report: Report) -> Iterator[Element]:
    yield element("h2", "Taps")
    parity = _find(report, "parity")
    taps = parity.details.get("taps", ()) if parity else ()
    if parity is None or not taps:
        yield element("p", "not run" + (f": {parity.reason}" if parity and parity.reason else ""))
        return
    worst = parity.details.get("worst_utterance")
    yield element("p", f"PSNR against the reference on the worst utterance, {worst}.")
    yield element("div", tap_plot(taps, _gate(parity, "PSNR, all logits")), class_="wide")
    kinds = dict.fromkeys(str(tap["kind"]) for tap in taps)
    yield element("p", *(element("span", kind, class_=f"key {kind}") for kind in kinds))


def _placement(report: Report) -> Iterator[Element]:
    """A strip per function: predicted by the rules, and planned where Core ML was asked."""
    examined = _details(report, "ops", "neural_engine")
    planned = _details(report, "compute-plan", "compute_plan")
    yield element("h2", "Neural Engine")
    if not examined and not planned:
        yield element("p", f"nothing is known of it for {report.target}")
        return
    for function in examined:
        stays = function["free_of_fatal"]["macs"]
        runs = len(function["segments"])
        yield element(
            "p",
            f"{function['package']} {function['function']}: {function['ops']} ops, {stays:.1f} % "
            f"of multiply-accumulates stay, in {runs} {'run' if runs == 1 else 'runs'} "
            f"({function['label']})",
        )
        yield strip(_runs(function), f"{function['function']}: operations by place")
    for function in planned:
        yield element("p", f"{function['package']} {function['function']}, planned by Core ML")
        yield strip(_devices(function), f"{function['function']}: cost by device")
    yield element(
        "p",
        *(
            element("span", words, class_=f"key {kind}")
            for kind, words in (("engine", "Neural Engine"), ("elsewhere", "elsewhere"))
        ),
    )


def _runs(function: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Runs in order, what breaks them between, and behind them what lies in no run's way."""
    total = max(1, function["ops"])
    breaks: dict[int, list[Mapping[str, Any]]] = {}
    for cut in function["breaks"]:
        breaks.setdefault(cut["after"], []).append(cut)
    parts: list[tuple[str, str, float]] = []
    left = function["ops"]
    for index, run in enumerate(function["segments"]):
        words = f"run {index + 1}: {run['ops']} ops, {run['mac_share']:.1f} % of MACs"
        parts.append(("engine", f"{words}, {run['first']} to {run['last']}", run["ops"] / total))
        cuts = breaks.get(index, [])
        why = "; ".join(f"{cut['op']} {cut['name']} ({', '.join(cut['rules'])})" for cut in cuts)
        parts.append(("elsewhere", why, len(cuts) / total))
        left -= run["ops"] + len(cuts)
    parts.append(("elsewhere", f"{left} ops before, after or beside the runs", left / total))
    return parts


def _devices(function: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    return [
        (
            "engine" if device == "neural engine" else "elsewhere",
            f"{device}: {share['ops']} ops, {100 * share['cost']:.1f} % of estimated cost",
            share["cost"],
        )
        for device, share in function["devices"].items()
    ]


def _size(beside: Beside) -> Iterator[Element]:
    yield element("h2", "Size")
    if not beside.siblings:
        yield element("p", "not looked at: the report was printed without its bundle")
        return
    yield element("div", size_bars(beside.siblings), class_="wide")
    if len(beside.siblings) == 1:
        yield element("p", "No other bundle of this model lies beside it.")


def _time(beside: Beside) -> Iterator[Element]:
    yield element("h2", "Time")
    if not beside.timings:
        yield element("p", beside.unmeasured)
        return
    yield table(("what", "measured by lpa-bench"), beside.timings.items())


def _check(check: Check) -> Element:
    rest = "\n".join(check_lines(check))
    return element(
        "details",
        element("summary", f"{check.name} ", _badge(check)),
        element("p", check.reason) if check.reason else None,
        _figures(check.figures) if check.figures else None,
        element("pre", rest) if rest else None,
        **({"open": ""} if check.status == "fail" else {}),
    )


def _figures(figures: Sequence[Figure]) -> Element:
    return table(_FIGURES, [_figure_row(figure) for figure in figures], class_="figures")


def _figure_row(figure: Figure) -> tuple[Child, ...]:
    gate = "" if figure.comparison is None else f"{figure.comparison} {figure.gate}"
    kind, words = {
        None: ("", ""),
        True: ("pass", "ok"),
        False: ("not_run", "flag") if figure.flag else ("fail", "fail"),
    }[figure.ok]
    mark = element("span", words, class_=f"badge {kind}") if words else None
    return figure.name, figure_value(figure), gate, mark, figure.label


def _badge(check: Check) -> Element:
    return element("span", _VERDICT[check.status], class_=f"badge {check.status}")


def _find(report: Report, name: str) -> Check | None:
    return next((check for check in report.checks if check.name == name), None)


def _details(report: Report, check: str, key: str) -> Sequence[Mapping[str, Any]]:
    found = _find(report, check)
    rows: Sequence[Mapping[str, Any]] = found.details.get(key, ()) if found else ()
    return rows


def _gate(check: Check, figure: str) -> float | None:
    gates = [item.gate for item in check.figures if item.name == figure]
    return float(gates[0]) if gates and isinstance(gates[0], int | float) else None
