"""The study's tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from lpa_export.measures.bootstrap import Interval
from lpa_export.training.study.tables import DRAWS, SEED, Row, Speech, Table

__all__ = ["as_markdown"]

HEAD = (
    "| variant | what | layers | before joint phase | WER soft | WER hard | difference | seeds |",
    "| --- | --- | ---: | ---: | --- | --- | --- | --- |",
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
        f"Before the joint phase: hard WER once the last layer was replaced. "
        f"In brackets 95 % intervals: paired bootstrap over speakers, {DRAWS:,} draws, seed "
        f"{SEED}. "
        f"Teacher: sha256 {speech.teacher_sha256[:12]}.",
        "",
        "The weights of each run were chosen by this same dev set, so every WER is a little "
        "optimistic. With few speakers the intervals are rough, and what another seed of the "
        "training would change is in none of them: where a variant has several, their range is "
        "beside their number.",
    ]


def _line(row: Row) -> str:
    seeds = str(len(row.seeds))
    if row.spread is not None:
        seeds += f" (mean; {row.spread[0]:.2f} to {row.spread[1]:.2f})"
    cells = (
        f"`{row.variant.name}`",
        row.variant.text.replace("|", "\\|"),
        str(row.layers),
        "" if row.before_joint is None else f"{row.before_joint:.2f}",
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
