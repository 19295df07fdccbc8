"""Reports of the demo app taken into a report: measured on a device, beside what was emulated.

A report of another bundle proves nothing about this one: the digest of the manifest, those of the
golden clips and the rule for texts must agree, or the file is refused. Its verdicts are not taken
on trust either: they are drawn anew here, from its figures and this bundle's own gates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError
from lpa_export.formats.golden import GOLDEN, GoldenEntry
from lpa_export.formats.manifest import MANIFEST, Number, as_type, read_json
from lpa_export.formats.text import Vocabulary
from lpa_export.measures.word_errors import WordErrors, count_errors
from lpa_validate.device_schema import (
    SCHEMA_VERSION,
    BenchmarkEntry,
    DeviceReportEntry,
    RecognitionEntry,
    ReplayEntry,
)
from lpa_validate.report import Check, Figure, Report, gated, judged

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle
    from lpa_export.formats.gates import Gates

__all__ = ["check_device", "device_name", "read_device_report"]

_PARTS_DB = 6.0
"""A device this far below the emulation computes otherwise than what was emulated."""


def read_device_report(path: Path, bundle: Bundle) -> DeviceReportEntry:
    """The report of a device on this very bundle.

    Raises LpaError for a file that is none, is newer, or speaks of another bundle, other golden
    clips or another rule for texts.
    """
    content = read_json(path, "report of a device")
    version = content.get("schema_version") if isinstance(content, dict) else None
    if type(version) is not int:
        raise LpaError(f"{path}: no report of a device; let the demo app or lpa-demo write one")
    if version > SCHEMA_VERSION:
        raise LpaError(
            f"{path}: schema version {version} is newer than {SCHEMA_VERSION}; update lpa-export"
        )
    try:
        report = as_type(content, DeviceReportEntry, str(path))
    except LpaError as error:
        reason = str(error).removesuffix("; export the bundle again")
        raise LpaError(f"{reason}; let the demo app write it again") from error
    _require_same_bundle(report, bundle, path)
    if not (report.replays or report.recognition or report.benchmarks):
        raise LpaError(f"{path}: nothing was measured in it; let the demo app write it again")
    return report


def device_name(report: DeviceReportEntry) -> str:
    """The device in a line of the report's environment."""
    device = report.device
    return f"{'simulator of ' if device.simulator else ''}{device.name}, {device.os}"


def check_device(device: DeviceReportEntry, bundle: Bundle, report: Report) -> Check:
    """What the device found, held to the bundle's gates and graded against the emulation.

    ``report`` is this validation's own: its WER and what it predicts are put beside the device's.
    """
    figures: list[Figure] = []
    for replay in device.replays:
        figures += _replay_figures(replay, bundle)
    if device.recognition is not None:
        figures += _word_figures(device.recognition, bundle, report)
    for benchmark in device.benchmarks:
        figures += _benchmark_figures(benchmark)
    figures += _speed_up(device.benchmarks)
    return judged(
        "device",
        figures,
        reason=_reason(device, figures),
        details={
            "device": device_name(device),
            "device_taps": [row for replay in device.replays for row in _tap_rows(replay, bundle)],
            "predicted": [
                {"check": check.name, "figure": figure.name, "value": figure.value}
                for check in report.checks
                for figure in check.figures
                if figure.label == "predicted"
            ],
        },
    )


def _require_same_bundle(report: DeviceReportEntry, bundle: Bundle, path: Path) -> None:
    manifest = bundle.manifest
    found = hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()
    if report.bundle.manifest_sha256 != found:
        raise LpaError(
            f"{path}: of another bundle: its manifest has SHA-256 "
            f"{report.bundle.manifest_sha256[:12]}, that of {bundle.path} has {found[:12]}; "
            "name the bundle that ran on the device"
        )
    index = bundle.file(f"{GOLDEN}/index.json")
    entries = as_type(read_json(index, "list of clips"), tuple[GoldenEntry, ...], str(index))
    golden = {entry.id: manifest.files[entry.audio].sha256 for entry in entries}
    if report.golden != golden:
        raise LpaError(f"{path}: of other golden clips than those of {bundle.path}")
    stated = (manifest.normaliser.name, manifest.normaliser.version)
    rule = (report.normaliser.name, report.normaliser.version)
    if rule != stated:
        raise LpaError(
            f"{path}: texts went through {'/'.join(rule)}, those of the bundle through "
            f"{'/'.join(stated)}; WERs of different rules are not compared"
        )


def _replay_figures(replay: ReplayEntry, bundle: Bundle) -> list[Figure]:
    gates, where = bundle.manifest.gates, replay.runtime
    levels = {tap.name: _float(tap.psnr_db) for tap in replay.taps}
    level = levels.get("logits")
    # Words may differ only where the scheme's gate on WER leaves room for it.
    exact = gates.wer_difference_points == 0
    changed = sum(clip.transcript != clip.expected for clip in replay.clips)
    agreement = float(replay.argmax_agreement)
    figures = [
        gated(f"PSNR, logits, {where}", level, gates.psnr_db, ">=", unit="dB"),
        gated(f"argmax agreement, {where}", agreement, gates.argmax_agreement, ">="),
        gated(f"changed transcripts, {where}", changed, 0 if exact else None, "=="),
    ]
    emulated = _emulated(bundle).get("logits")
    if emulated is not None and level is not None:
        name = f"PSNR, logits, {where}, against the emulation"
        difference = 0.0 if level == emulated else level - emulated
        figures.append(Figure(name, difference, "dB", -_PARTS_DB, ">=", flag=True))
    return figures


def _emulated(bundle: Bundle) -> dict[str, float]:
    """PSNR per tap of the same clips, by the exporter's self-check in an emulator."""
    check = bundle.manifest.selfcheck
    if check.label != "emulated":
        return {}
    return {name: float(value) for name, value in check.taps.items()}


def _float(value: Number | None) -> float | None:
    """A plain number, which a report can hold; None where there was none."""
    return None if value is None else float(value)


def _tap_rows(replay: ReplayEntry, bundle: Bundle) -> Iterator[dict[str, Any]]:
    emulated = _emulated(bundle)
    for tap in replay.taps:
        yield {
            "runtime": replay.runtime,
            "tap": tap.name,
            "kind": tap.kind,
            "measured_db": _float(tap.psnr_db),
            "emulated_db": emulated.get(tap.name),
        }


def _word_figures(recognition: RecognitionEntry, bundle: Bundle, report: Report) -> list[Figure]:
    gates, where = bundle.manifest.gates, recognition.runtime
    errors = _counted(recognition, bundle)
    figures = [gated(f"WER, {where}", errors.wer, gates.reference_wer_ceiling, "<=", unit="%")]
    return figures + list(_beside(errors, recognition, report, gates))


def _counted(recognition: RecognitionEntry, bundle: Bundle) -> WordErrors:
    """Word errors of the transcripts, counted here; LpaError where the device counted others."""
    vocabulary = Vocabulary.read(bundle.file(bundle.manifest.vocabulary.file))
    texts = [item.text for item in recognition.transcripts]
    heard = [item.transcript for item in recognition.transcripts]
    try:
        errors = count_errors(texts, heard, vocabulary.normalise)
    except ValueError as error:
        raise LpaError(f"the device's transcripts: {error}") from error
    counted = (errors.substitutions, errors.deletions, errors.insertions)
    stated = (recognition.substitutions, recognition.deletions, recognition.insertions)
    if counted != stated:
        raise LpaError(
            f"the device counted {stated} substitutions, deletions and insertions, its own "
            f"transcripts have {counted}; let the demo app write the report again"
        )
    return errors


def _beside(
    errors: WordErrors, recognition: RecognitionEntry, report: Report, gates: Gates
) -> Iterator[Figure]:
    """The device's WER against this validation's, where both heard the same speech."""
    if report.data is None or report.data.sha256 != recognition.data.sha256:
        return
    for check in report.checks:
        for who in ("artifact", "reference"):
            other = next((f.value for f in check.figures if f.name == f"WER, {who}"), None)
            if isinstance(other, float):
                name = f"WER, {recognition.runtime}, against the {who} here"
                gate = gates.wer_difference_points if who == "reference" else None
                yield gated(name, round(errors.wer - other, 9), gate, "<=", unit="points")


def _benchmark_figures(benchmark: BenchmarkEntry) -> list[Figure]:
    where = benchmark.runtime
    times = {
        "open and first pass, cold": benchmark.cold,
        "open and first pass, warm": benchmark.warm,
        "pass, median": benchmark.p50,
        "pass, 95th percentile": benchmark.p95,
    }
    figures = [Figure(f"{name}, {where}", 1000 * value, "ms") for name, value in times.items()]
    figures.append(Figure(f"real-time factor, {where}", benchmark.real_time_factor))
    if benchmark.peak_memory_bytes is not None:
        figures.append(Figure(f"peak memory, {where}", benchmark.peak_memory_bytes / 1e6, "MB"))
    return figures


def _speed_up(benchmarks: Sequence[BenchmarkEntry]) -> list[Figure]:
    """What the Neural Engine was worth, to be read beside what was predicted to run on it."""
    by_units = {benchmark.units: benchmark for benchmark in benchmarks}
    if "cpu" not in by_units or "neural-engine" not in by_units:
        return []
    worth = by_units["cpu"].p50 / by_units["neural-engine"].p50
    return [Figure("pass on the CPU by pass on the Neural Engine", worth)]


def _reason(device: DeviceReportEntry, figures: Sequence[Figure]) -> str:
    """What failed, and the first tap where it parts; empty where nothing did."""
    failed = [figure.name for figure in figures if figure.failed]
    if not failed:
        return ""
    parts = [
        f"first diverging tap on {replay.runtime}: {replay.first_diverging_tap}"
        for replay in device.replays
        if replay.first_diverging_tap
    ]
    return "; ".join([f"on {device_name(device)}: {', '.join(failed)}", *parts])
