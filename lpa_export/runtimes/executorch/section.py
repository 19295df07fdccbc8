"""The manifest's section ``runtime``: how an ExecuTorch program wants to be called."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError
from lpa_export.runtimes import ArtifactError

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle

__all__ = ["Bucket", "Runtime", "file_of", "runtime_of"]

_LENGTH_TYPES = ("int32", "int64")


@dataclass(frozen=True)
class Bucket:
    """A method for waveforms of up to ``samples``, which takes them padded to exactly that."""

    method: str
    samples: int
    frames: int


@dataclass(frozen=True)
class Runtime:
    """What the runner needs to know.

    A dynamic program has one ``method`` for every length, and perhaps one that puts out the
    manifest's stages; else ``buckets`` has a method per length, ascending, which takes the number
    of valid samples as ``length_type``.
    """

    backend: str
    program: str
    bundled: str | None
    delegation: str
    method: str | None
    stages_method: str | None
    min_samples: int
    max_samples: int
    buckets: tuple[Bucket, ...]
    length_type: str

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that turn a waveform into logits."""
        if self.method is not None:
            return (self.method,)
        return tuple(bucket.method for bucket in self.buckets)

    def bucket_for(self, samples: int) -> Bucket:
        """The smallest bucket that a waveform of so many samples fits into."""
        return next(bucket for bucket in self.buckets if samples <= bucket.samples)


def runtime_of(bundle: "Bundle") -> Runtime:
    """The section as the runner reads it. Raises LpaError when it is not what an export writes."""
    section = bundle.manifest.get("runtime")
    try:
        return _runtime(section if isinstance(section, dict) else {})
    except (KeyError, TypeError, ValueError) as error:
        raise LpaError(
            f"{bundle.path / 'manifest.json'}: 'runtime' must say how the program is called "
            f"({type(error).__name__}: {error}); export the bundle again"
        ) from error


def file_of(bundle: "Bundle", name: str) -> Path:
    """A file of the bundle. Raises ArtifactError when it is missing."""
    try:
        return bundle.file(name)
    except LpaError as error:
        raise ArtifactError(f"{name} cannot be read ({error})") from error


def _runtime(section: Mapping[str, Any]) -> Runtime:
    dynamic = _typed(section, "dynamic", bool)
    buckets = () if dynamic else tuple(map(_bucket, section["buckets"]))
    if not dynamic and not buckets:
        raise ValueError("no bucket")
    if list(buckets) != sorted(buckets, key=lambda bucket: bucket.samples):
        raise ValueError("buckets must ascend")
    inputs = section["inputs"]
    length_type = "" if dynamic else str(inputs[1]["dtype"])
    if not dynamic and length_type not in _LENGTH_TYPES:
        raise ValueError(f"lengths of type {length_type!r}")
    return Runtime(
        backend=_typed(section, "backend", str),
        program=_typed(section, "program", str),
        bundled=_optional(section, "bundled"),
        delegation=_typed(section, "delegation", str),
        method=_typed(section, "method", str) if dynamic else None,
        stages_method=_optional(section, "stages_method") if dynamic else None,
        min_samples=_typed(section, "min_samples", int),
        max_samples=_typed(section, "max_samples", int) if dynamic else buckets[-1].samples,
        buckets=buckets,
        length_type=length_type,
    )


def _bucket(entry: Mapping[str, Any]) -> Bucket:
    samples, frames = _typed(entry, "samples", int), _typed(entry, "frames", int)
    return Bucket(_typed(entry, "method", str), samples, frames)


def _typed(section: Mapping[str, Any], key: str, kind: type) -> Any:
    if type(section[key]) is not kind:
        raise TypeError(f"{key!r} must be of type {kind.__name__}")
    return section[key]


def _optional(section: Mapping[str, Any], key: str) -> str | None:
    found: str | None = None if section.get(key) is None else _typed(section, key, str)
    return found
