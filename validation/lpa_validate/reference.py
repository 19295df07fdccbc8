"""The reference: the original model in torch, one utterance at a time, hard gates.

Only a doorway to ``lpa_export.runtimes.torch``, so that torch and transformers are imported
here and nowhere else in this package.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lpa_export.errors import LpaError
from lpa_export.runtimes import Array
from lpa_validate.report import Reference

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle
    from lpa_export.formats.text import Vocabulary

__all__ = ["ReferenceModel", "TorchModel", "open_reference"]


class ReferenceModel(Protocol):
    """The model that the artifact has to agree with."""

    @property
    def vocabulary(self) -> "Vocabulary": ...

    @property
    def identity(self) -> Reference: ...

    def logits(self, waveform: Array) -> Array:
        """(frames, vocabulary) of one waveform (samples,)."""
        ...

    def taps(self, waveform: Array) -> dict[str, Array]:
        """Tap name to (frames, width) of one waveform (samples,)."""
        ...


class TorchModel:
    """A loaded checkpoint as a :class:`ReferenceModel`."""

    def __init__(self, checkpoint: Any) -> None:
        from lpa_export.runtimes.torch import TorchReference

        self._reference = TorchReference(checkpoint)
        self.vocabulary: Vocabulary = checkpoint.vocabulary
        self.identity = Reference("torch", checkpoint.name, checkpoint.sha256)

    def logits(self, waveform: Array) -> Array:
        return self._reference.logits(waveform)

    def taps(self, waveform: Array) -> dict[str, Array]:
        return self._reference.taps(waveform)


def open_reference(
    bundle: "Bundle",
    checkpoint: str | Path | None,
    *,
    load: Callable[[Any], Any] | None = None,
) -> tuple[ReferenceModel | None, str]:
    """The bundle's own model in torch, or None and the reason why there is none.

    ``checkpoint`` is a folder or hub id; without it the model shipped in the package serves,
    if the bundle was made from it. ``load`` replaces ``load_checkpoint``.
    Raises LpaError when a named checkpoint cannot be loaded or is not the bundle's.
    """
    made_from = bundle.manifest.checkpoint
    if checkpoint is None and not made_from.shipped:
        return None, (
            f"no torch reference: the bundle comes from {made_from.name!r}, which does not "
            "ship with the package; give it with --checkpoint"
        )
    try:
        loaded = (load or _loader())(checkpoint)
    except ImportError as error:
        if checkpoint is not None:
            raise LpaError(f"--checkpoint needs torch and transformers ({error})") from error
        return None, f"no torch reference: {error}"
    except LpaError as error:
        if checkpoint is not None:
            raise
        return None, f"no torch reference: {error}"
    if loaded.sha256 == made_from.sha256:
        return TorchModel(loaded), ""
    found = (
        f"the bundle was made from {made_from.name!r} with sha256 "
        f"{made_from.sha256[:12]}, found {loaded.sha256[:12]}"
    )
    if checkpoint is not None:
        raise LpaError(f"{checkpoint}: {found}; give the checkpoint the bundle was made from")
    return None, f"no torch reference: {found} in the package; export the bundle again"


def _loader() -> Callable[[Any], Any]:
    from lpa_export.formats.checkpoint import load_checkpoint

    return load_checkpoint
