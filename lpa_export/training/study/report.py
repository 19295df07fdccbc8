"""The report of a study: its tables as Markdown, and WER against depth as a picture.

matplotlib is imported when the picture is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lpa_export.measures.bootstrap import Interval
from lpa_export.training.files import replace_file
from lpa_export.training.study.settings import Drawn, Order
from lpa_export.training.study.tables import DRAWS, SEED, Row, Speech, Table

__all__ = ["as_markdown", "controls", "depths", "draw_depths"]

MOST_SPEAKERS = 20
"""Up to so many have a column each in the tables of differences."""

_DRAWN: dict[Drawn, str] = {
    "speakers": "speakers",
    "utterances": "the utterances of each speaker",
}
_LEFT_OUT: dict[Drawn, str] = {
    "speakers": "With few speakers the intervals are rough",
    "utterances": "The intervals are for these speakers; what others would give is in none of them",
}

LABELS: dict[Order, str] = {"sweep": "easiest first (sweep)", "reverse": "hardest first"}

HEAD = (
    "| variant | what | layers | before joint phase | joint phase | WER soft | WER hard | "
    "difference | seeds |",
    "| --- | --- | ---: | ---: | --- | --- | --- | --- | --- |",
)


def as_markdown(
    name: str, tables: Sequence[Table], speech: Speech | None, picture: str | None
) -> str:
    """The report of the study of recipe `name`; `picture` names the chart beside it, if any."""
    lines = [f"# {name}: ways of replacing attention", "", *_measured(speech)]
    if picture is not None:
        lines += ["", f"![WER against the number of replaced layers]({picture})"]
    for table in tables:
        lines += ["", f"## {table.title}", ""]
        if table.rows:
            lines += [
                f"Differences are to `{table.reference}`.",
                "",
                *HEAD,
                *map(_line, table.rows),
                *_by_speaker(table.rows),
            ]
        if table.not_run:
            lines += ["", f"Not run: {', '.join(table.not_run)}."]
    return "\n".join(lines) + "\n"


def _measured(speech: Speech | None) -> list[str]:
    if speech is None:
        return ["No variant has run."]
    return [
        f"WER in percent, differences of the hard WER in points, greedy, on the recipe's dev set: "
        f"{speech.utterances} utterances, {speech.words} words, {speech.speakers} speakers. "
        f"Before the joint phase: hard WER once the last layer was replaced. Joint phase: of the "
        f"first seed, looks at dev by which weights are chosen, and a hash of its batches in their "
        f"order; a control is the joint phase with every attention in its place. "
        f"In brackets 95 % intervals: paired bootstrap over {_DRAWN[speech.drawn]}, {DRAWS:,} "
        f"draws, seed {SEED}. "
        f"Teacher: sha256 {speech.teacher_sha256[:12]}.",
        "",
        "The weights of each run were chosen by this same dev set, so every WER is a little "
        f"optimistic. {_LEFT_OUT[speech.drawn]}, and what another seed of the "
        "training would change is in none of them: where a variant has several, their range is "
        "beside their number.",
    ]


def _by_speaker(rows: Sequence[Row]) -> list[str]:
    """The differences once more, speaker by speaker."""
    people = list(dict.fromkeys(who for row in rows for who in row.by_speaker))
    if not 1 < len(people) <= MOST_SPEAKERS:
        return []
    lines = [["difference for", *people], ["---", *("---:" for _ in people)]]
    for row in rows:
        if row.by_speaker:
            values = (row.by_speaker.get(who) for who in people)
            cells = ("" if value is None else f"{value:+.2f}" for value in values)
            lines.append([f"`{row.variant.name}`", *cells])
    return ["", *(f"| {' | '.join(cells)} |" for cells in lines)]


def _line(row: Row) -> str:
    seeds = str(len(row.seeds))
    if row.spread is not None:
        seeds += f" (mean; {row.spread[0]:.2f} to {row.spread[1]:.2f})"
    cells = (
        f"`{row.variant.name}`",
        row.variant.text.replace("|", "\\|"),
        str(row.layers),
        "" if row.before_joint is None else f"{row.before_joint:.2f}",
        _joint(row.joint),
        _figure(row.soft, row.soft_interval, ""),
        _figure(row.hard, row.interval, ""),
        _figure(row.difference, row.difference_interval, "+"),
        seeds,
    )
    return f"| {' | '.join(cells)} |"


def _figure(value: float | None, interval: Interval | None, sign: str) -> str:
    if value is None or interval is None:
        return ""
    return f"{value:{sign}.2f} ({interval.low:{sign}.2f} to {interval.high:{sign}.2f})"


def _joint(joint: Mapping[str, Any]) -> str:
    """Updates, rate, averaging, looks at dev and the order of the batches, of one row."""
    if not joint:
        return ""
    averaged = joint["averaged_epochs"]
    return (
        f"{joint['updates']} updates at {joint['learning_rate']:g}, "
        + (f"mean of {averaged} epochs, " if averaged else "")
        + f"{joint['looks_at_dev']} looks, batches {joint['batches_sha256'][:6]}"
    )


def depths(tables: Sequence[Table]) -> dict[Order, list[Row]]:
    """Order -> its rows by depth; only variants of which depth and order alone differ.

    Depth 0 is the teacher, where every order starts; an order of which no more has run is left out.
    """
    rows = {row.variant.name: row for table in tables for row in table.rows}
    plain = [row for row in rows.values() if row.variant.plain and row.variant.order]
    found = {
        order: [row for row in plain if row.variant.order == order or not row.layers]
        for order in LABELS
    }
    return {
        order: sorted(rows, key=lambda row: row.layers)
        for order, rows in found.items()
        if any(row.layers for row in rows)
    }


def controls(tables: Sequence[Table]) -> list[Row]:
    """The rows in which attention was trained on, each once."""
    rows = {row.variant.name: row for table in tables for row in table.rows}
    return [row for row in rows.values() if row.variant.control]


def draw_depths(
    path: Path, name: str, curves: dict[Order, list[Row]], kept: Sequence[Row] = ()
) -> None:
    """A PNG with a curve per order, with hard gates, and the 95 % interval of each point.

    WER begins at zero, unless no point comes near it.

    `kept`: controls, each a line with its interval across.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for shift, (order, rows) in zip((-0.04, 0.04), curves.items(), strict=False):
        below = [row.hard - row.interval.low for row in rows]
        above = [row.interval.high - row.hard for row in rows]
        axes.errorbar(
            [row.layers + shift for row in rows],
            [row.hard for row in rows],
            yerr=[below, above],
            marker="o",
            ms=4,
            capsize=3,
            label=LABELS[order],
        )
    for number, row in enumerate(kept):
        colour = f"C{len(LABELS) + number}"
        axes.axhline(row.hard, ls="--", lw=1, color=colour, label=f"attention: {row.variant.name}")
        axes.axhspan(row.interval.low, row.interval.high, alpha=0.12, color=colour)
    deepest = max(row.layers for rows in curves.values() for row in rows)
    axes.set_xticks(range(deepest + 1))
    if axes.get_ylim()[0] < axes.get_ylim()[1] / 2:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("layers replaced (0: the teacher)")
    axes.set_ylabel("WER on dev, hard gates, %")
    axes.set_title(f"{name}: attention layers replaced by LPA, 95 % intervals", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    replace_file(
        path,
        lambda beside: figure.savefig(beside, dpi=150, format="png", metadata={"Software": None}),
    )
