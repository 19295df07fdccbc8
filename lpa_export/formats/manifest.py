"""``manifest.json``: what a bundle says of itself. One definition, one reader, one writer.

The JSON Schema beside this file is generated from it (``python -m lpa_export.formats.schema``);
other languages test against that.

A bundle may come from anywhere, so the reader is strict: keys that are not known, keys that are
there twice, values of another type and paths out of the folder are refused, each in one line.
"""

import inspect
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from lpa_export.errors import LpaError
from lpa_export.formats.gates import Gates
from lpa_export.formats.paths import names_a_file_inside
from lpa_export.formats.schemes import Scheme
from lpa_export.formats.task import RECOGNITION, SEPARATION

__all__ = [
    "MANIFEST",
    "METADATA_SCHEMA",
    "SCHEMA_VERSION",
    "AnyManifest",
    "Bucket",
    "BundleManifest",
    "Compression",
    "FileEntry",
    "Frames",
    "Manifest",
    "Normalisation",
    "Normaliser",
    "Number",
    "Port",
    "SelfCheck",
    "Sizes",
    "Source",
    "Tap",
    "VocabularyEntry",
    "as_json",
    "as_type",
    "json_schema",
    "manifest_as",
    "manifest_content",
    "read_json",
    "read_manifest",
    "require_inside",
]

MANIFEST = "manifest.json"
SCHEMA_VERSION: Final = 2

METADATA_SCHEMA = 1
"""Version of what an artifact says about itself, in metadata of its own format."""

_MAX_BYTES = 16 * 1024 * 1024
_SHA256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_Count = Annotated[int, Meta(ge=0)]
_Positive = Annotated[int, Meta(ge=1)]
FrontEnd = Literal["whole", "pieces"]
"""How the convolutions over the waveform run: all of it at once, or a few seconds at a time."""

FRAMES_OF_A_PIECE = 100
"""Frames that a front end in pieces makes at a time at most: two seconds at 50 a second."""

NORMALISATION_EPSILON = 1e-7
"""Added to the variance of a waveform, as in transformers' Wav2Vec2FeatureExtractor."""

_NON_FINITE = ("inf", "-inf", "nan")

if TYPE_CHECKING:
    Number = float
else:

    class Number(float):
        """A number that may be infinite or NaN, which JSON cannot say: "inf", "-inf", "nan"."""


Struct = TypeVar("Struct")
AnyManifest = TypeVar("AnyManifest", bound="BundleManifest")


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all parts of a manifest share: no field is changed, none is unknown."""


class Frames(_Record, frozen=True, omit_defaults=True):
    """Samples to frames: floor((n + 2 padding - kernel) / stride) + 1, one after another.

    Without ``paddings`` all are 0. ``hop`` is in samples, ``receptive_field`` the fewest samples
    that give a frame.
    """

    kernels: tuple[_Positive, ...]
    strides: tuple[_Positive, ...]
    hop: _Positive
    receptive_field: _Positive
    paddings: tuple[_Count, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.kernels) == len(self.strides) == len(self.paddings or self.strides):
            raise ValueError("kernels, strides and paddings must be of the same number")
        if self.hop != math.prod(self.strides):
            raise ValueError(f"hop must be the product of the strides, {math.prod(self.strides)}")
        if not self.count(self.receptive_field - 1) < self.count(self.receptive_field) == 1:
            raise ValueError("receptive_field must be the fewest samples that give a frame")

    def count(self, samples: int, *, inside: bool = False, convolutions: int | None = None) -> int:
        """Frames of so many samples; 0 when they are too few.

        ``inside``: those that the encoder sees. Only convolutions behind it have a padding.
        ``convolutions``: behind the first so many, None for all.
        """
        paddings = self.paddings or (0,) * len(self.kernels)
        every = list(zip(self.kernels, self.strides, paddings, strict=True))
        for kernel, stride, padding in every[:convolutions]:
            if inside and padding:
                break
            samples = max((samples + 2 * padding - kernel) // stride + 1, 0) if samples else 0
        return samples


class Normalisation(_Record, frozen=True):
    """What happens to the waveform first, and whether the artifact or the app does it."""

    kind: Literal["none", "zero_mean_unit_variance"]
    where: Literal["graph", "app"]
    epsilon: float = 0.0


class VocabularyEntry(_Record, frozen=True):
    """The tokens: ``file`` has them by id. No ``word_delimiter``: texts of whole tokens."""

    size: _Positive
    blank_id: _Count
    word_delimiter: str | None
    file: str


class Normaliser(_Record, frozen=True):
    """The rule that reference texts went through before words were counted."""

    name: str
    version: str
    parameters: dict[str, Any] = {}


class Port(_Record, frozen=True):
    """An input or output; a name in ``shape`` stands for a length that the caller chooses."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Tap(_Record, frozen=True, omit_defaults=True):
    """A named point inside the model where artifact and reference are compared.

    ``kind``: frontend, lpa, attention or head; ``tensor``: its name in the artifact; ``where``:
    the program that has it, where there are several.
    """

    name: str
    kind: str
    tensor: str
    where: str | None = None


class Bucket(_Record, frozen=True):
    """A fixed length: a program of ``frames`` frames, for waveforms of up to ``samples``.

    ``seconds`` are those samples, cut to hundredths. A program that takes waveforms takes them
    padded to exactly ``samples``.
    """

    frames: _Positive
    samples: _Positive
    seconds: float

    @classmethod
    def of(cls, frames: int, samples: int, sample_rate: int) -> "Bucket":
        """The bucket of so many frames and samples."""
        seconds = math.floor(100 * samples / sample_rate) / 100
        return cls(frames=frames, samples=samples, seconds=seconds)

    @property
    def program(self) -> str:
        """The name of its function or method, where a file has several."""
        return f"frames_{self.frames}"


class Source(_Record, frozen=True):
    """The checkpoint a bundle was made from. ``figures``: what training measured, by name.

    ``family``: the host's model type; ``shipped``: it is the one inside the package. ``language``:
    the one chosen, where the checkpoint has several.
    """

    name: str
    sha256: _SHA256
    family: str
    layers: _Count
    replaced_layers: tuple[_Count, ...]
    shipped: bool
    figures: dict[str, Number] = {}
    language: str | None = None


class Sizes(_Record, frozen=True):
    """What memory and time depend on beside the length of the audio; widths are in channels.

    ``front_end`` has the width of each of its convolutions, ``windows`` how many a head has where
    attention is replaced (0: nowhere). ``position_bias``: one of every pair of frames.
    """

    front_end: Annotated[tuple[_Positive, ...], Meta(min_length=1)]
    hidden: _Positive
    feed_forward: _Positive
    heads: _Positive
    windows: _Count
    position_bias: bool = False


class SelfCheck(_Record, frozen=True):
    """The written artifact in its runtime, on the golden clips, at the end of the export.

    ``taps``: the worst PSNR in dB per tap; ``floor_db`` is what each had to reach. ``label`` says
    whether the runtime itself ran or an emulator. A backend that cannot run where the export ran
    is ``not_run``, with the ``reason``.
    """

    status: Literal["passed", "not_run"]
    reason: str = ""
    label: Literal["measured", "emulated"] | None = None
    floor_db: Number | None = None
    taps: dict[str, Number] = {}

    def __post_init__(self) -> None:
        if self.status == "not_run" and not self.reason:
            raise ValueError("a self-check that was not run needs a reason")


class Compression(_Record, frozen=True):
    """Bytes of weights as they would be in floats, counted in the artifact once it was compressed.

    ``total`` of all weights of products and convolutions, ``eligible`` those of them that the
    scheme stores in fewer bits (neither kept in floats by design, nor too small to gain by it),
    ``compressed`` those that really are.
    """

    total: _Count
    eligible: _Count
    compressed: _Count

    def __post_init__(self) -> None:
        if not self.compressed <= self.eligible <= self.total:
            raise ValueError("compressed weights are eligible ones, and those are some of all")

    @classmethod
    def of(cls, parts: Iterable["Compression"]) -> "Compression":
        """Of several files together."""
        found = list(parts)
        return cls(
            total=sum(part.total for part in found),
            eligible=sum(part.eligible for part in found),
            compressed=sum(part.compressed for part in found),
        )

    @property
    def share(self) -> float:
        """Of the eligible bytes, those that are compressed; 0 where nothing is eligible."""
        return self.compressed / self.eligible if self.eligible else 0.0


class FileEntry(_Record, frozen=True):
    """Size and SHA-256 of a file of the bundle."""

    bytes: _Count
    sha256: _SHA256


class BundleManifest(_Record, frozen=True, kw_only=True):
    """What a bundle of any task says of itself.

    ``artifacts`` are what an app loads (files, or folders); ``buckets`` ascend, None: any length.
    ``lowering`` says how the families of windows are written. ``runtime`` is what only this
    target's runner needs; it reads it with :func:`as_type`. ``compression`` is there where the
    scheme keeps weights in fewer bits. ``tools`` maps packages to versions. ``files`` has every
    file but the manifest itself.
    """

    target: str
    model: str
    scheme: Scheme
    sample_rate: _Positive
    frames: Frames
    artifacts: Annotated[tuple[str, ...], Meta(min_length=1)]
    lowering: dict[str, str]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    taps: tuple[Tap, ...]
    buckets: tuple[Bucket, ...] | None
    runtime: dict[str, Any]
    checkpoint: Source
    selfcheck: SelfCheck
    tools: dict[str, str]
    files: dict[str, FileEntry] = {}
    compression: Compression | None = None
    schema_version: Literal[2] = SCHEMA_VERSION


class Manifest(BundleManifest, frozen=True, kw_only=True):
    """All that the bundle of a recogniser says of itself; it names no task.

    ``sizes`` are there unless it was exported before there were any. A ``front_end`` in pieces is a
    loop in the artifact, whose memory does not grow with the audio.
    """

    normalisation: Normalisation
    vocabulary: VocabularyEntry
    normaliser: Normaliser
    gates: Gates
    front_end: FrontEnd = "whole"
    sizes: Sizes | None = None


def read_manifest(place: Path) -> Manifest:
    """The manifest of a recogniser in that file.

    Raises LpaError in one line for anything but a sound one, and for that of another task.
    """
    content = manifest_content(place)
    task = content.get("task", RECOGNITION)
    if task != RECOGNITION:
        raise LpaError(
            f"{place}: a bundle for {task!r}, expected one that recognises speech"
            + ("; lpa-enhance and lpa-validate take it" if task == SEPARATION else "")
        )
    return manifest_as(content, Manifest, place)


def manifest_content(place: Path) -> dict[str, Any]:
    """The JSON object in that file. Raises LpaError where it is none, or of another schema."""
    content = read_json(place, "manifest")
    if not isinstance(content, dict):
        raise LpaError(f"{place}: expected a JSON object; export the bundle again")
    _require_version(content, place)
    return content


def manifest_as(content: Mapping[str, Any], kind: type[AnyManifest], place: Path) -> AnyManifest:
    """A manifest's content, whose names stay inside the bundle. Raises LpaError for another."""
    manifest = as_type(content, kind, str(place))
    for name in manifest.files:
        require_inside(name, place)
    for name in manifest.artifacts:
        if not any(path == name or path.startswith(f"{name}/") for path in manifest.files):
            raise LpaError(f"{place}: artifact {name!r} is not among 'files'; export it again")
    return manifest


def as_json(value: Any) -> str:
    """A struct, or structs in lists and mappings, as sorted JSON; infinities and NaN as text."""
    plain = _finite(msgspec.to_builtins(value, enc_hook=float))
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=1, sort_keys=True) + "\n"


def as_type(content: Any, kind: type[Struct], place: str) -> Struct:
    """JSON values as a struct. Raises LpaError naming ``place`` and the value that is wrong."""
    try:
        return msgspec.convert(content, kind, dec_hook=_number)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        # The latter for half a surrogate pair, in a key or where one of some words should be.
        raise LpaError(f"{place}: {error}; export the bundle again") from error


def read_json(place: Path, what: str) -> Any:
    """The JSON values in a file of a bundle; keys that are there twice are refused.

    Raises LpaError for a file that is no JSON, or absurdly large.
    """
    try:
        if place.stat().st_size > _MAX_BYTES:
            raise LpaError(f"{place}: too large for a {what}; export the bundle again")
        text = place.read_text("utf-8")
        return json.loads(
            text, object_pairs_hook=_distinct, parse_constant=_refused, parse_float=_in_range
        )
    except (ValueError, RecursionError) as error:
        raise LpaError(f"{place}: not JSON ({error}); export the bundle again") from error
    except OSError as error:
        raise LpaError(f"{place}: cannot be read ({error.strerror})") from error


def json_schema(kind: Any) -> str:
    """The JSON Schema of a struct, as text for a file."""
    schema = msgspec.json.schema(kind, schema_hook=_number_schema)
    # How far docstrings are indented here differs between releases of msgspec and of Python.
    for part in (schema, *schema.get("$defs", {}).values()):
        if "description" in part:
            part["description"] = inspect.cleandoc(part["description"])
    return json.dumps(schema, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def require_inside(name: str, place: Path) -> None:
    """Refuse names that are absolute, go up, or mean another thing on another system."""
    if not names_a_file_inside(name):
        raise LpaError(f"{place}: {name!r} does not name a file inside the bundle; do not trust it")


def _require_version(content: Mapping[str, Any], place: Path) -> None:
    version = content.get("schema_version")
    if type(version) is not int or version < 1:
        raise LpaError(f"{place}: no 'schema_version', not a manifest of lpa-export")
    if version > SCHEMA_VERSION:
        raise LpaError(
            f"{place}: schema version {version} is newer than {SCHEMA_VERSION}; update lpa-export"
        )
    if version < SCHEMA_VERSION:
        raise LpaError(
            f"{place}: schema version {version} is older than {SCHEMA_VERSION}; export it again"
        )


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(n for n in names if names.count(n) > 1)!r} is there twice")
    return found


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _in_range(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is out of range")
    return float(text)


def _number(kind: type, value: Any) -> Any:
    """Read a `Number`; msgspec asks for the types it does not know."""
    if kind is not Number:
        raise NotImplementedError(kind)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Number(value)
    if value in _NON_FINITE:
        return Number(value)
    raise ValueError(f"Expected a number, or one of {_NON_FINITE}, got {value!r}")


def _number_schema(kind: type) -> dict[str, Any]:
    if kind is not Number:
        raise NotImplementedError(kind)
    return {"anyOf": [{"type": "number"}, {"enum": [*_NON_FINITE]}]}


def _finite(value: Any) -> Any:
    """The same values with non-finite numbers as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
