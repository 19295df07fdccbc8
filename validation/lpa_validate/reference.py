"""The reference: the original model in torch, one utterance at a time, hard gates.

Only a doorway to ``lpa_export.runtimes.torch``, so that torch and transformers are imported
here and nowhere else in this package. The folder is read by transformers' own calls, never by the
loader that the exporter uses: a mistake of that loader shows in the comparison.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from lpa_export.errors import LpaError
from lpa_export.formats.bundle import AnyBundle
from lpa_export.formats.manifest import Source
from lpa_export.formats.source import checkpoint_folder, checkpoint_sha256
from lpa_export.runtimes import THREADS, Array
from lpa_validate.report import Reference

__all__ = ["ReferenceModel", "TorchModel", "open_model", "open_reference"]

Model = TypeVar("Model")


class ReferenceModel(Protocol):
    """The model that the artifact has to agree with."""

    @property
    def identity(self) -> Reference: ...

    def logits(self, waveform: Array) -> Array:
        """(frames, vocabulary) of one waveform (samples,)."""
        ...

    def taps(self, waveform: Array) -> dict[str, Array]:
        """Tap name to (frames, width) of one waveform (samples,)."""
        ...

    def text(self, logits: Array) -> str:
        """What its own tokenizer makes of (frames, vocabulary)."""
        ...


class TorchModel:
    """A checkpoint folder as a :class:`ReferenceModel`."""

    def __init__(self, folder: Path, made_from: Source) -> None:
        import torch

        from lpa_export.runtimes.torch import OriginalModel

        # As every runner: the same sums on every machine and in every process.
        torch.set_num_threads(THREADS)
        self.folder = folder
        self._model = OriginalModel(folder, made_from.language)
        self.identity = Reference("torch", made_from.name, made_from.sha256)

    def logits(self, waveform: Array) -> Array:
        return self._model.logits(waveform)

    def taps(self, waveform: Array) -> dict[str, Array]:
        return self._model.taps(waveform)

    def text(self, logits: Array) -> str:
        return self._model.text(logits)


def open_reference(
    bundle: AnyBundle,
    checkpoint: str | Path | None,
    *,
    load: Callable[[Path, Source], ReferenceModel] = TorchModel,
) -> tuple[ReferenceModel | None, str]:
    """`open_model` of a recogniser."""
    return open_model(bundle, checkpoint, load)


def open_model(
    bundle: AnyBundle, checkpoint: str | Path | None, load: Callable[[Path, Source], Model]
) -> tuple[Model | None, str]:
    """The bundle's own model in torch, or None and the reason why there is none.

    ``checkpoint`` is a folder or hub id; without it the model shipped in the package serves,
    if the bundle was made from it. ``load`` opens the folder once its files are the bundle's.
    Raises LpaError when a named checkpoint cannot be loaded or is not the bundle's.
    """
    made_from = bundle.manifest.checkpoint
    if checkpoint is None and not made_from.shipped:
        return None, (
            f"no torch reference: the bundle comes from {made_from.name!r}, which does not "
            "ship with the package; give it with --checkpoint"
        )
    try:
        folder = checkpoint_folder(checkpoint, made_from.language)
        found = checkpoint_sha256(folder, made_from.language)
        if found == made_from.sha256:
            return load(folder, made_from), ""
    except ImportError as error:
        if checkpoint is not None:
            raise LpaError(f"--checkpoint needs torch and transformers ({error})") from error
        return None, f"no torch reference: {error}"
    except LpaError as error:
        if checkpoint is not None:
            raise
        return None, f"no torch reference: {error}"
    other = (
        f"the bundle was made from {made_from.name!r} with sha256 "
        f"{made_from.sha256[:12]}, found {found[:12]}"
    )
    if checkpoint is not None:
        raise LpaError(f"{checkpoint}: {other}; give the checkpoint the bundle was made from")
    return None, f"no torch reference: {other} in the package; export the bundle again"
