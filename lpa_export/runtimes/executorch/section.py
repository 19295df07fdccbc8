"""The manifest's section ``runtime``: how an ExecuTorch program wants to be called."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lpa_export.errors import LpaError
from lpa_export.formats.manifest import MANIFEST, Bucket, Port
from lpa_export.runtimes import ArtifactError

if TYPE_CHECKING:
    from lpa_export.formats.bundle import AnyBundle

__all__ = ["ExecutorchRuntime", "file_of", "method_for", "runtime_of"]

_LENGTH_TYPES = ("int32", "int64")


class ExecutorchRuntime(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """As it stands in the manifest.

    ``methods`` turn a waveform into what the model gives: one for every length, or one per bucket
    of the manifest, which takes the number of valid samples too. ``taps_method`` puts out all taps,
    in the manifest's order; of a program in buckets it is a method of the longest. ``delegates``
    counts the parts that each backend took; ``lowering`` says how LPA layers are written.
    """

    backend: str
    program: str
    bundled: str | None
    delegation: str
    delegates: dict[str, int]
    lowering: str
    methods: tuple[str, ...]
    taps_method: str | None
    min_samples: int
    max_samples: int


def runtime_of(bundle: "AnyBundle") -> ExecutorchRuntime:
    """The section. Raises LpaError when it is not what an export writes."""
    runtime, manifest = bundle.runtime_as(ExecutorchRuntime), bundle.manifest
    problem = _problem(runtime, manifest.buckets or (), manifest.inputs)
    if problem:
        raise LpaError(
            f"{bundle.path / MANIFEST}: 'runtime' must say how the program is called ({problem}); "
            "export the bundle again"
        )
    return runtime


def method_for(runtime: ExecutorchRuntime, buckets: Sequence[Bucket], samples: int) -> str:
    """The method that a waveform of so many samples goes to: in buckets the smallest it fits."""
    fitting = (i for i, bucket in enumerate(buckets) if samples <= bucket.samples)
    return runtime.methods[next(fitting, -1)]


def file_of(bundle: "AnyBundle", name: str) -> Path:
    """A file of the bundle. Raises ArtifactError when it is missing."""
    try:
        return bundle.file(name)
    except LpaError as error:
        raise ArtifactError(f"{name} cannot be read ({error})") from error


def _problem(runtime: ExecutorchRuntime, buckets: Sequence[Bucket], inputs: Sequence[Port]) -> str:
    """What does not fit together, empty when all does."""
    samples = [bucket.samples for bucket in buckets]
    if len(runtime.methods) != (len(buckets) or 1):
        return f"{len(runtime.methods)} methods for {len(buckets)} buckets"
    if samples != sorted(set(samples)):
        return "buckets must ascend"
    if buckets and runtime.max_samples != samples[-1]:
        return f"max_samples {runtime.max_samples}, the longest bucket has {samples[-1]}"
    if buckets and (len(inputs) != 2 or inputs[1].dtype not in _LENGTH_TYPES):
        return f"bucketed programs take lengths of type {' or '.join(_LENGTH_TYPES)}"
    return ""
