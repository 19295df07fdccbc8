"""The manifest's section ``runtime``: what a Core AI bundle is run by."""

from typing import TYPE_CHECKING

import msgspec

from lpa_export.errors import LpaError
from lpa_export.formats.manifest import MANIFEST, Bucket

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle

__all__ = ["CoreaiRuntime", "runtime_of", "taps_of"]


class CoreaiRuntime(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """As it stands in the manifest.

    ``program`` is a folder with a function per bucket, called as `Bucket.program` says, and one of
    its taps with ``taps_`` in front. Each takes `waveform` (1, samples) float32 and `lengths` (1,)
    int32.
    """

    program: str


def taps_of(bucket: Bucket) -> str:
    """The name of the function that gives all taps."""
    return f"taps_{bucket.program}"


def runtime_of(bundle: "Bundle") -> CoreaiRuntime:
    """The section. Raises LpaError when it is not what an export writes."""
    runtime = bundle.runtime_as(CoreaiRuntime)
    if not bundle.manifest.buckets:
        raise LpaError(
            f"{bundle.path / MANIFEST}: a Core AI program has buckets; export the bundle again"
        )
    if runtime.program not in bundle.manifest.artifacts:
        raise LpaError(
            f"{bundle.path / MANIFEST}: 'runtime' names {runtime.program!r}, which is no artifact; "
            "export the bundle again"
        )
    return runtime
