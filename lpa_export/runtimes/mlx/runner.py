"""A recogniser in MLX's own runtime, as an app would run the bundle."""

from typing import TYPE_CHECKING, Any

from lpa_export.formats.manifest import Bucket
from lpa_export.runtimes import THREADS, Array
from lpa_export.runtimes.bucketed import BucketedRunner
from lpa_export.runtimes.mlx.opened import OpenFunctions

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle

__all__ = ["MlxRunner"]


class MlxRunner(OpenFunctions, BucketedRunner):
    """The program of a bundle. Raises as `OpenFunctions` does."""

    def __init__(self, bundle: "Bundle", *, threads: int = THREADS) -> None:
        OpenFunctions.__init__(self, bundle, threads=threads)
        BucketedRunner.__init__(self, bundle.manifest)

    def call(self, bucket: Bucket, waveform: Array, lengths: Any, *, taps: bool) -> list[Array]:
        """The function of that shape."""
        return self.compute(waveform, lengths, taps=taps)
