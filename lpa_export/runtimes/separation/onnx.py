"""A separator in ONNX Runtime on the CPU."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from lpa_export.errors import LpaError
from lpa_export.formats.separation_bundle import SeparatorBundle
from lpa_export.runtimes import THREADS, Array, ArtifactError, Label, pad
from lpa_export.runtimes.onnx import artifact_bytes, open_session, parsed, with_outputs

if TYPE_CHECKING:
    import onnx

__all__ = ["OnnxSeparatorRunner"]

_WANTED = ("waveform", "lengths", "sources")


class OnnxSeparatorRunner:
    """``model.onnx`` of a separator's bundle; see `lpa_export.runtimes.Runner`.

    Raises ArtifactError when the file does not open as a model with the manifest's inputs and
    outputs.
    """

    def __init__(self, bundle: SeparatorBundle, *, threads: int = THREADS) -> None:
        self._manifest = bundle.manifest
        self._bundle = bundle
        self._threads = threads
        name = bundle.manifest.artifacts[0]
        try:
            path = bundle.file(name)
        except LpaError as error:
            raise ArtifactError(f"{name} cannot be read ({error})") from error
        self._session = open_session(path, threads=threads)
        ports = (*self._session.get_inputs(), *self._session.get_outputs())
        missing = sorted({*_WANTED} - {port.name for port in ports})
        if missing:
            raise ArtifactError(f"{name}: no input or output {', '.join(missing)} in the graph")

    label: Label = "measured"
    max_samples = None

    @property
    def min_samples(self) -> int:
        """Those of one frame."""
        return self._manifest.frames.receptive_field

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The session itself, for checks that ask the runtime about the model."""
        return self._session

    @property
    def metadata(self) -> Mapping[str, str]:
        """The model's ``metadata_props``."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    @cached_property
    def model(self) -> "onnx.ModelProto":
        """The model as a protobuf, read again: a session keeps no copy, nor does its runner."""
        return parsed(artifact_bytes(self._bundle))

    @cached_property
    def values(self) -> frozenset[str]:
        """Names of all tensors that nodes of the graph put out."""
        return frozenset(name for node in self.model.graph.node for name in node.output if name)

    def run(self, padded: Array, lengths: Sequence[int]) -> list[Array]:
        """Waveforms (valid samples, sources) of each row of ``padded`` (batch, samples)."""
        (made,) = self._fetch(self._session, ["sources"], padded, lengths)
        if made.shape != (len(padded), self._manifest.sources, padded.shape[1]):
            raise ArtifactError(
                f"expected sources of {len(padded)} mixtures of {padded.shape[1]} samples, found "
                f"{made.shape}"
            )
        return [row[:, :count].T for row, count in zip(made, lengths, strict=True)]

    def taps(self, waveform: Array) -> dict[str, Array]:
        """The manifest's taps of one mixture (samples,): name to (frames, width).

        A tap whose tensor the graph does not have is left out.
        """
        tensors = {tap.name: tap.tensor for tap in self._manifest.taps if tap.tensor in self.values}
        found = self._fetch(self._tapped, list(tensors.values()), *pad([waveform]))
        return {
            name: values[0].T if name == "sources" else values.reshape(-1, values.shape[-1])
            for name, values in zip(tensors, found, strict=True)
        }

    @cached_property
    def _tapped(self) -> onnxruntime.InferenceSession:
        """A session of a copy of the model that has the tap tensors as outputs."""
        names = [tap.tensor for tap in self._manifest.taps if tap.tensor in self.values]
        tapped = with_outputs(self.model, names).SerializeToString()
        return open_session(tapped, threads=self._threads, folder=self._bundle.path)

    def _fetch(
        self,
        session: onnxruntime.InferenceSession,
        names: list[str],
        padded: Array,
        lengths: Sequence[int],
    ) -> list[Any]:
        inputs = {"waveform": padded, "lengths": np.asarray(lengths, np.int64)}
        try:
            return session.run(names, inputs)
        except Exception as error:  # the runtime raises its own types, RuntimeError among them
            reason = " ".join(str(error).split())
            raise ArtifactError(f"the model broke while running: {reason}") from error
