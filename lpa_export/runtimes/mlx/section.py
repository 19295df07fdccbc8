"""The manifest's section ``runtime``: what an MLX bundle is run by."""

from typing import TYPE_CHECKING

import msgspec

from lpa_export.errors import LpaError
from lpa_export.formats.manifest import MANIFEST

if TYPE_CHECKING:
    from lpa_export.formats.bundle import AnyBundle

__all__ = ["MlxRuntime", "runtime_of"]


class MlxRuntime(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """As it stands in the manifest.

    ``program`` takes waveforms (1, samples) float32 of a bucket and their lengths (1,) int32;
    with a scalar int32 called ``taps`` it gives all taps, in the manifest's order. ``weights`` and
    ``config`` are what the model of any length is built from. ``primitives``: how many there are
    of each kind in the program, over all functions; ``device``: where they run, cpu or gpu.
    """

    program: str
    weights: str
    config: str
    device: str
    primitives: dict[str, int]


def runtime_of(bundle: "AnyBundle") -> MlxRuntime:
    """The section. Raises LpaError when it is not what an export writes."""
    runtime = bundle.runtime_as(MlxRuntime)
    if not bundle.manifest.buckets:
        raise LpaError(
            f"{bundle.path / MANIFEST}: an MLX program has buckets; export the bundle again"
        )
    return runtime
