"""Core AI's own interpreter, in a process of its own, on any system that has its wheel."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.formats.manifest import Bucket
from lpa_export.runtimes import THREADS, Array, ArtifactError
from lpa_export.runtimes.bucketed import BucketedRunner
from lpa_export.runtimes.coreai.section import runtime_of, taps_of
from lpa_export.runtimes.process import Worker

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle

__all__ = ["WORKER", "CoreaiRunner"]

WORKER = Path(__file__).with_name("worker.py")
"""What the process runs."""


class CoreaiRunner(BucketedRunner):
    """The program of a bundle. Raises ArtifactError when it does not open as what was written.

    ``threads`` are the interpreter's own: it has no setting for them.
    """

    def __init__(self, bundle: "Bundle", *, threads: int = THREADS) -> None:
        self.runtime = runtime_of(bundle)
        super().__init__(bundle.manifest)
        self._worker = Worker(WORKER)
        path = bundle.path / self.runtime.program
        try:
            about, _ = self._worker.ask("open", path=str(path))
            buckets = bundle.manifest.buckets or ()
            wanted = {name for b in buckets for name in (b.program, taps_of(b))}
            if missing := sorted(wanted - set(about["functions"])):
                raise ArtifactError(f"it has no function {missing[0]}")
        except ArtifactError as error:
            raise ArtifactError(f"{self.runtime.program} does not open: {error}") from error
        self.metadata: Mapping[str, str] = about["metadata"]

    def call(self, bucket: Bucket, waveform: Array, lengths: Any, *, taps: bool) -> list[Array]:
        """The function of that bucket."""
        function = taps_of(bucket) if taps else bucket.program
        outputs = [tap.tensor for tap in self.manifest.taps] if taps else ["logits"]
        return self._worker.ask("run", [waveform, lengths], function=function, outputs=outputs)[1]
