"""The original separator in torch, read without the loader that the exporter uses."""

from pathlib import Path
from typing import Protocol

from lpa_export.formats.manifest import Source
from lpa_export.runtimes import THREADS, Array
from lpa_validate.report import Reference

__all__ = ["SeparatorModel", "TorchSeparator"]


class SeparatorModel(Protocol):
    """The model that the artifact has to agree with."""

    @property
    def identity(self) -> Reference: ...

    def sources(self, waveform: Array) -> Array:
        """(samples, sources) of one mixture (samples,)."""
        ...

    def taps(self, waveform: Array) -> dict[str, Array]:
        """Tap name to (frames, width) of one mixture (samples,)."""
        ...


class TorchSeparator:
    """A checkpoint folder as a :class:`SeparatorModel`."""

    def __init__(self, folder: Path, made_from: Source) -> None:
        import torch

        from lpa_export.runtimes.separation.torch import OriginalSeparator

        # As every runner: the same sums on every machine.
        torch.set_num_threads(THREADS)
        self._model = OriginalSeparator(folder)
        self.identity = Reference("torch", made_from.name, made_from.sha256)

    def sources(self, waveform: Array) -> Array:
        return self._model.sources(waveform)

    def taps(self, waveform: Array) -> dict[str, Array]:
        return self._model.taps(waveform)
