"""What the demo app writes about a bundle on a device, and the JSON Schema beside this module.

``python -m lpa_validate.device_schema`` writes the schema; the app's own tests hold the app to it.
Numbers that JSON cannot say stand as text: "inf", "-inf", "nan".
"""

from pathlib import Path
from typing import Final, Literal

import msgspec

from lpa_export.formats.manifest import Number, json_schema

__all__ = [
    "SCHEMA_VERSION",
    "BenchmarkEntry",
    "BundleEntry",
    "ClipEntry",
    "DeviceEntry",
    "DeviceReportEntry",
    "RecognitionEntry",
    "ReplayEntry",
    "RuleEntry",
    "SpeechEntry",
    "TapEntry",
    "TranscriptEntry",
    "schemas",
]

SCHEMA_VERSION: Final = 1


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all parts share: no field is changed, none is unknown."""


class BundleEntry(_Entry, frozen=True):
    """Which bundle ran; the digest of its manifest covers every other file."""

    model: str
    target: str
    scheme: str
    manifest_sha256: str


class DeviceEntry(_Entry, frozen=True):
    """The kind of machine ("iPhone15,2"), not whose it is; ``os`` with its build."""

    name: str
    os: str
    simulator: bool


class RuleEntry(_Entry, frozen=True):
    """The rule that texts went through before words were counted."""

    name: str
    version: str


class TapEntry(_Entry, frozen=True):
    """A tap over all golden clips; null where the program does not put it out."""

    name: str
    kind: str
    psnr_db: Number | None
    largest_difference: Number | None
    gate_db: float | None
    passed: bool | None


class ClipEntry(_Entry, frozen=True):
    """A golden clip's logits and texts; ``expected`` is what the reference model hears."""

    id: str
    psnr_db: Number
    transcript: str
    expected: str


class ReplayEntry(_Entry, frozen=True):
    """The golden clips on some units; null ``units``: the runtime has none to choose from."""

    runtime: str
    units: str | None
    passed: bool
    failures: tuple[str, ...]
    first_diverging_tap: str | None
    argmax_agreement: Number
    argmax_gate: float | None
    changed_transcripts: int
    taps: tuple[TapEntry, ...]
    clips: tuple[ClipEntry, ...]


class BenchmarkEntry(_Entry, frozen=True):
    """Seconds. ``cold``: opening and first pass; ``warm``: the same again; then ``passes``."""

    runtime: str
    units: str | None
    audio_seconds: float
    cold: float
    warm: float
    p50: float
    p95: float
    passes: int
    real_time_factor: float
    peak_memory_bytes: int | None
    thermal_states: tuple[str, ...] | None


class SpeechEntry(_Entry, frozen=True):
    """The speech; its digest is that of lpa-validate."""

    name: str
    sha256: str
    utterances: int
    words: int


class TranscriptEntry(_Entry, frozen=True):
    """What was said and what was heard."""

    id: str
    text: str
    transcript: str


class RecognitionEntry(_Entry, frozen=True):
    """Words of speech with known texts; ``wer`` in percent."""

    runtime: str
    data: SpeechEntry
    wer: float
    substitutions: int
    deletions: int
    insertions: int
    transcripts: tuple[TranscriptEntry, ...]


class DeviceReportEntry(_Entry, frozen=True, kw_only=True):
    """The whole file. ``golden``: clip to the SHA-256 of its audio."""

    schema_version: Literal[1] = SCHEMA_VERSION
    bundle: BundleEntry
    device: DeviceEntry
    normaliser: RuleEntry
    golden: dict[str, str]
    replays: tuple[ReplayEntry, ...]
    recognition: RecognitionEntry | None
    benchmarks: tuple[BenchmarkEntry, ...]


def schemas() -> dict[Path, str]:
    """The file beside this one, and what it must hold."""
    return {Path(__file__).parent / "device_report.schema.json": json_schema(DeviceReportEntry)}


if __name__ == "__main__":
    for path, text in schemas().items():
        path.write_text(text, "utf-8", newline="\n")
