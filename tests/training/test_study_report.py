"""The report of a study: its figures against a slow bootstrap, and what has not run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lpa_export.commands.train import main
from lpa_export.errors import LpaError
from lpa_export.measures.bootstrap import by_group
from lpa_export.training.study.report import as_markdown, depths
from lpa_export.training.study.run import (
    RESULT,
    UtteranceErrors,
    VariantResult,
    run_folder,
    settings_of,
    write_result,
)
from lpa_export.training.study.settings import Study, load_study
from lpa_export.training.study.tables import DRAWS, SEED, tabulate

STUDY = """\
groups:
  depth: {title: How deep, reference: teacher}
  other: {title: "Other | things", reference: one}
variants:
  one: {group: depth, text: easiest, order: sweep, count: 1}
  teacher: {group: depth, text: nothing, order: sweep, count: 0}
  two: {group: depth, text: two, order: sweep, count: 2}
  last: {group: depth, text: hardest, order: reverse, count: 1}
  kernel: {group: other, text: a | b, order: sweep, count: 1, lpa: {kernel_size: 7}, seeds: [0, 1]}
"""
SPEAKERS = ("a", "a", "a", "b", "b", "c", "d", "d")
WORDS = (9, 4, 7, 11, 3, 5, 0, 8)
ERRORS = {
    "teacher": (2, 0, 2, 4, 1, 1, 0, 4),
    "one": (3, 0, 2, 5, 1, 0, 0, 4),
    "last": (9, 2, 4, 9, 3, 5, 1, 8),
}


@pytest.fixture
def study(toy_recipe: Callable[..., Path], tmp_path: Path) -> Study:
    path = tmp_path / "toy.study.yaml"
    path.write_text(STUDY)
    return load_study(toy_recipe(), path)


@pytest.fixture
def put(study: Study, tmp_path: Path) -> Callable[..., VariantResult]:
    """Put the result of a run into the study's folder."""

    def write(name: str, errors: tuple[int, ...], seed: int = 0, **other: object) -> VariantResult:
        (variant,) = study.chosen([name])
        utterances = tuple(
            UtteranceErrors(f"u{i}", SPEAKERS[i], WORDS[i], 0, wrong, wrong)
            for i, wrong in enumerate(errors)
        )
        wer = 100 * sum(errors) / sum(WORDS)
        result = VariantResult(
            name, seed, tuple(range(variant.count)), (wer + 2,) * variant.count, "f" * 64, 1.0, wer,
            wer, 50.0, {}, 60.0, settings_of(variant, seed), utterances,
        )  # fmt: skip
        write_result(run_folder(tmp_path / "out", name, seed), replace(result, **other))  # type: ignore[arg-type]
        return result

    return write


def _slow(ours: tuple[float, ...], theirs: tuple[float, ...]) -> tuple[float, float]:
    """The interval of the difference, speaker by speaker and draw by draw."""
    people = list(dict.fromkeys(SPEAKERS))
    of = {p: [i for i, speaker in enumerate(SPEAKERS) if speaker == p] for p in people}
    picks = np.random.default_rng(SEED).integers(0, len(people), (DRAWS, len(people)))
    found = []
    for row in picks.tolist():
        drawn = [index for place in row for index in of[people[place]]]
        words = sum(WORDS[i] for i in drawn)
        found.append(100 * (sum(ours[i] for i in drawn) - sum(theirs[i] for i in drawn)) / words)
    found.sort()
    return found[round(0.025 * DRAWS)], found[round(0.975 * DRAWS)]


def test_intervals_are_those_of_a_slow_bootstrap_over_speakers(
    study: Study, put: Callable[..., VariantResult], tmp_path: Path
) -> None:
    for name, errors in ERRORS.items():
        put(name, errors)
    (depth, _), speech = tabulate(study, tmp_path / "out")
    assert speech is not None and (speech.utterances, speech.words, speech.speakers) == (8, 47, 4)
    rows = {row.variant.name: row for row in depth.rows}
    assert list(rows) == ["teacher", "one", "last"] and depth.not_run == ("two",)
    for name in ("one", "last"):
        row = rows[name]
        assert row.hard == pytest.approx(100 * sum(ERRORS[name]) / 47)
        low, high = _slow(ERRORS[name], (0,) * 8)
        assert (row.interval.low, row.interval.high) == pytest.approx((low, high), abs=0.05)
        assert row.soft_interval == row.interval  # the soft model errs alike here
        assert row.difference == pytest.approx(row.hard - rows["teacher"].hard)
        low, high = _slow(ERRORS[name], ERRORS["teacher"])
        assert row.difference_interval is not None
        found = row.difference_interval.low, row.difference_interval.high
        assert found == pytest.approx((low, high), abs=0.05)
    assert rows["teacher"].difference is None and rows["teacher"].before_joint is None
    assert rows["one"].before_joint == pytest.approx(rows["one"].hard + 2)


def test_of_few_speakers_the_utterances_of_each_are_drawn(
    study: Study, put: Callable[..., VariantResult], tmp_path: Path
) -> None:
    """Against a slow loop, which draws from each speaker as many utterances as there are."""
    for name, errors in ERRORS.items():
        put(name, errors)
    (depth, _), speech = tabulate(replace(study, drawn="utterances"), tmp_path / "out")
    assert speech is not None and speech.drawn == "utterances"
    rows = {row.variant.name: row for row in depth.rows}
    generator, found = np.random.default_rng(5), []
    for _ in range(20_000):
        drawn: list[int] = []
        for person in dict.fromkeys(SPEAKERS):
            own = [index for index, speaker in enumerate(SPEAKERS) if speaker == person]
            drawn += generator.choice(own, len(own)).tolist()
        moved = sum(ERRORS["last"][i] - ERRORS["teacher"][i] for i in drawn)
        found.append(100 * moved / sum(WORDS[i] for i in drawn))
    interval = rows["last"].difference_interval
    assert interval is not None
    expected = np.percentile(found, [2.5, 97.5])
    assert [interval.low, interval.high] == pytest.approx(expected, abs=1.0)
    whole = {row.variant.name: row for row in tabulate(study, tmp_path / "out")[0][0].rows}
    other = whole["last"].difference_interval
    assert other is not None and other.low != pytest.approx(interval.low, abs=1.0)


def test_differences_are_listed_by_speaker(
    study: Study, put: Callable[..., VariantResult], tmp_path: Path
) -> None:
    for name, errors in ERRORS.items():
        put(name, errors)
    tables, speech = tabulate(study, tmp_path / "out")
    teacher, *_ = tables[0].rows
    assert teacher.by_speaker == {}
    text = as_markdown("toy", tables, speech, None)
    assert "| difference for | a | b | c | d |" in text
    # 11 of 20 words more for a, 7 of 14 for b, 4 of 5 for c and 5 of 8 for d.
    assert "| `last` | +55.00 | +50.00 | +80.00 | +62.50 |" in text
    assert "bootstrap over speakers" in text
    _, drawn = tabulate(replace(study, drawn="utterances"), tmp_path / "out")
    assert "the utterances of each speaker" in as_markdown("toy", tables, drawn, None)


def test_seeds_count_as_their_mean_and_show_their_range(
    study: Study, put: Callable[..., VariantResult], tmp_path: Path
) -> None:
    put("one", ERRORS["one"])
    put("kernel", ERRORS["one"], seed=0)
    _, other = tabulate(study, tmp_path / "out")[0]
    assert other.not_run == ("kernel (seed 1)",) and other.rows[1].spread is None
    put("kernel", ERRORS["last"], seed=1)
    _, other = tabulate(study, tmp_path / "out")[0]
    row = other.rows[1]
    both = [(a + b) / 2 for a, b in zip(ERRORS["one"], ERRORS["last"], strict=True)]
    assert row.hard == pytest.approx(100 * sum(both) / 47)
    assert row.spread == pytest.approx((100 * 15 / 47, 100 * 41 / 47))
    low, high = _slow(tuple(both), ERRORS["one"])
    assert row.difference_interval is not None
    assert row.difference_interval.low == pytest.approx(low, abs=0.05)
    assert row.difference_interval.high == pytest.approx(high, abs=0.05)


def test_the_command_reports_what_is_there_and_names_what_is_not(
    study: Study,
    put: Callable[..., VariantResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = tmp_path / "report.md"
    command = ["study", "--recipe", str(tmp_path / "toy.yaml"), "--out", str(tmp_path / "out")]
    command += ["--study", str(tmp_path / "toy.study.yaml"), "--report", str(report)]
    assert main(command) == 2
    assert "no such folder" in capsys.readouterr().err and not report.exists()
    (tmp_path / "out").mkdir()
    assert main(command) == 0
    assert "0 of 5 variants have run, 5 have not" in capsys.readouterr().out
    assert "No variant has run." in report.read_text() and not report.with_suffix(".png").exists()
    for name, errors in ERRORS.items():
        put(name, errors)
    put("kernel", ERRORS["one"])
    assert main(command) == 0
    text = report.read_text()
    assert "## How deep" in text and "Not run: two." in text and "Not run: kernel (seed 1)." in text
    line, by_speaker = [line for line in text.splitlines() if line.startswith("| `last`")]
    assert by_speaker.count("|") == 6
    cells = [cell.strip() for cell in line.split("|")[3:8]]
    assert cells[:3] == ["1", "89.23", ""]
    assert cells[3] == cells[4] and cells[4].startswith("87.23 (")
    assert r"a \| b" in text and "8 utterances, 47 words, 4 speakers" in text
    assert "![" in text and report.with_suffix(".png").stat().st_size > 5_000
    before = report.read_bytes(), report.with_suffix(".png").read_bytes()
    assert main(command) == 0  # the same seed draws the same
    assert (report.read_bytes(), report.with_suffix(".png").read_bytes()) == before


def test_the_chart_has_plain_variants_of_each_order_from_the_teacher_on(
    study: Study, put: Callable[..., VariantResult], tmp_path: Path
) -> None:
    for name, errors in ERRORS.items():
        put(name, errors)
    put("kernel", ERRORS["one"])
    curves = depths(tabulate(study, tmp_path / "out")[0])
    names = {order: [row.variant.name for row in rows] for order, rows in curves.items()}
    assert names == {"sweep": ["teacher", "one"], "reverse": ["teacher", "last"]}


def test_an_order_of_which_only_the_teacher_has_run_is_no_curve(
    study: Study, put: Callable[..., VariantResult], tmp_path: Path
) -> None:
    put("teacher", ERRORS["teacher"])
    assert depths(tabulate(study, tmp_path / "out")[0]) == {}
    put("one", ERRORS["one"])
    assert list(depths(tabulate(study, tmp_path / "out")[0])) == ["sweep"]


def test_results_of_other_speech_or_damaged_ones_are_refused(
    study: Study, put: Callable[..., VariantResult], tmp_path: Path
) -> None:
    put("teacher", ERRORS["teacher"])
    put("one", ERRORS["one"], teacher_sha256="e" * 64)
    with pytest.raises(LpaError, match="different dev speech or with different teachers"):
        tabulate(study, tmp_path / "out")
    result = put("one", ERRORS["one"])
    put("one", ERRORS["one"], utterances=result.utterances[1:])
    with pytest.raises(LpaError, match="different dev speech"):
        tabulate(study, tmp_path / "out")
    (run_folder(tmp_path / "out", "one", 0) / RESULT).write_text('{"format_version": 4}')
    with pytest.raises(LpaError, match="not the result of a study"):
        tabulate(study, tmp_path / "out")


def test_speakers_that_are_not_known_are_drawn_as_utterances(
    study: Study, put: Callable[..., VariantResult], tmp_path: Path
) -> None:
    result = put("one", ERRORS["one"])
    nobody = tuple(replace(item, speaker=None) for item in result.utterances)
    put("one", ERRORS["one"], utterances=nobody)
    _, speech = tabulate(study, tmp_path / "out")
    assert speech is not None and speech.speakers == 8


def test_counts_are_summed_by_group_in_the_order_of_first_occurrence() -> None:
    assert by_group([1, 2, 3, 4], ["b", "a", "b", "c"]).tolist() == [4.0, 2.0, 4.0]
