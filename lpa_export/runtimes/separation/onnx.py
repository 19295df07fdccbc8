"""A separator in ONNX Runtime on the CPU."""

from collections.abc import Sequence

from lpa_export.formats.separation_bundle import SeparatorBundle
from lpa_export.runtimes import THREADS, Array, ArtifactError
from lpa_export.runtimes.onnx import GraphRunner

__all__ = ["OnnxSeparatorRunner"]


class OnnxSeparatorRunner(GraphRunner):
    """``model.onnx`` of a separator's bundle; see `lpa_export.runtimes.Runner`."""

    ports = ("waveform", "lengths", "sources")

    def __init__(self, bundle: SeparatorBundle, *, threads: int = THREADS) -> None:
        super().__init__(bundle, threads=threads)
        self._sources = bundle.manifest.sources

    def run(self, padded: Array, lengths: Sequence[int]) -> list[Array]:
        """Waveforms (valid samples, sources) of each row of ``padded`` (batch, samples)."""
        (made,) = self.fetch(("sources",), padded, lengths)
        if made.shape != (len(padded), self._sources, padded.shape[1]):
            raise ArtifactError(
                f"expected sources of {len(padded)} mixtures of {padded.shape[1]} samples, found "
                f"{made.shape}"
            )
        return [row[:, :count].T for row, count in zip(made, lengths, strict=True)]

    def taps(self, waveform: Array) -> dict[str, Array]:
        """The manifest's taps of one mixture (samples,): name to (frames, width).

        A tap whose tensor the graph does not have is left out.
        """
        return {
            name: values[0].T if name == "sources" else values.reshape(-1, values.shape[-1])
            for name, values in self.fetch_taps(waveform).items()
        }
