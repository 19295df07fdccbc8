"""ONNX Runtime on the CPU, as an app would run the bundle."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnxruntime

from lpa_export.errors import LpaError
from lpa_export.runtimes import THREADS, Array, ArtifactError, Label, pad

if TYPE_CHECKING:
    import onnx

    from lpa_export.formats.bundle import AnyBundle, Bundle

__all__ = [
    "GraphRunner",
    "OnnxRunner",
    "artifact_bytes",
    "clips_int8",
    "every_graph",
    "every_node",
    "open_session",
    "parsed",
    "whole_model",
    "with_outputs",
    "with_unsigned_products",
]

# Fatal only: what goes wrong reaches the user as an exception of one line, not as a log.
_QUIET = 4

_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"

_ZERO = "unsigned.zero"
"""The zero of weights that have none of their own, in `with_unsigned_products`."""

_LONG_SAMPLES = 15 * 60 * 16_000
"""Of a batch, from which on a tensor is given back as soon as nobody needs it."""

Level = Literal["none", "basic", "all"]

_LEVELS: Mapping[Level, onnxruntime.GraphOptimizationLevel] = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
"""Rewrites before a run, by the name of their level."""


class GraphRunner:
    """``model.onnx`` of a bundle in a CPU session with a fixed number of threads.

    Where the processor clips the sums of int8 products, they run as uint8: the numbers are those of
    phones on any machine. ``ports``: the inputs and outputs that the graph must have. Raises
    ArtifactError when the file does not open as a model with them.
    """

    ports: tuple[str, ...]
    label: Label = "measured"
    max_samples = None

    def __init__(self, bundle: "AnyBundle", *, threads: int = THREADS) -> None:
        self._bundle = bundle
        self._threads = threads
        self._session = self._opened()
        found = {port.name for port in self._session.get_inputs() + self._session.get_outputs()}
        if missing := sorted({*self.ports} - found):
            name = bundle.manifest.artifacts[0]
            raise ArtifactError(f"{name}: no input or output {', '.join(missing)} in the graph")

    @property
    def min_samples(self) -> int:
        """Those of one frame."""
        return self._bundle.manifest.frames.receptive_field

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The session itself, for checks that ask the runtime about the model."""
        return self._session

    @property
    def metadata(self) -> Mapping[str, str]:
        """The model's ``metadata_props``."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    @cached_property
    def values(self) -> frozenset[str]:
        """Names of all tensors that nodes of the graph put out."""
        return frozenset(name for node in self.model.graph.node for name in node.output if name)

    @cached_property
    def model(self) -> "onnx.ModelProto":
        """The model as a protobuf, read again: a session keeps no copy, nor does its runner."""
        return parsed(artifact_bytes(self._bundle))

    def fetch(self, names: Sequence[str], padded: Array, lengths: Sequence[int]) -> list[Any]:
        """Outputs by name for ``padded`` (batch, samples). Raises ArtifactError where it breaks."""
        long = padded.size >= _LONG_SAMPLES
        if long and self._session.get_session_options().enable_cpu_mem_arena:
            # Before the other is opened: the weights are there once.
            del self._session
            self._session = self._opened(long=True)
        return self._fetch(self._session, names, padded, lengths)

    def fetch_taps(self, waveform: Array) -> dict[str, Array]:
        """The manifest's taps of one waveform (samples,), each with its batch of one.

        A tap whose tensor the graph does not have is left out.
        """
        taps = self._bundle.manifest.taps
        tensors = {tap.name: tap.tensor for tap in taps if tap.tensor in self.values}
        found = self._fetch(self._tapped, list(tensors.values()), *pad([waveform]))
        return dict(zip(tensors, found, strict=True))

    def prepared(self, padded: Array, lengths: Sequence[int]) -> Array:
        """What the graph is given for ``padded``."""
        return padded

    @cached_property
    def _tapped(self) -> onnxruntime.InferenceSession:
        """A session of a copy of the model that has the tap tensors as outputs."""
        names = [tap.tensor for tap in self._bundle.manifest.taps if tap.tensor in self.values]
        return self._opened(with_outputs(self.model, names))

    def _opened(
        self, model: "onnx.ModelProto | None" = None, *, long: bool = False
    ) -> onnxruntime.InferenceSession:
        """A session of ``model``, or of the file itself."""
        if self._bundle.manifest.scheme.weights == "int8" and clips_int8():
            # Read again, and not kept: the weights are there twice as it is.
            given = parsed(artifact_bytes(self._bundle)) if model is None else model
            model = with_unsigned_products(given)
        content = _artifact(self._bundle) if model is None else model.SerializeToString()
        folder = None if model is None else self._bundle.path
        return open_session(content, threads=self._threads, folder=folder, long=long)

    def _fetch(
        self,
        session: onnxruntime.InferenceSession,
        names: Sequence[str],
        padded: Array,
        lengths: Sequence[int],
    ) -> list[Any]:
        inputs = {
            "waveform": self.prepared(padded, lengths),
            "lengths": np.asarray(lengths, np.int64),
        }
        try:
            return session.run(list(names), inputs)
        except Exception as error:  # the runtime raises its own types, RuntimeError among them
            raise ArtifactError(f"the model broke while running: {_one_line(error)}") from error


class OnnxRunner(GraphRunner):
    """A recogniser, as an app would run its bundle; see `lpa_export.runtimes.Runner`.

    Waveforms are normalised here only where the manifest says the graph does not do it itself.
    """

    ports = ("waveform", "lengths", "logits", "frame_lengths")

    def __init__(self, bundle: "Bundle", *, threads: int = THREADS) -> None:
        super().__init__(bundle, threads=threads)
        self._manifest = bundle.manifest

    def run(self, padded: Array, lengths: Sequence[int]) -> list[Array]:
        """Logits (valid frames, vocabulary) of each row of ``padded`` (batch, samples)."""
        logits, frames = self.fetch(("logits", "frame_lengths"), padded, lengths)
        if logits.ndim != 3 or frames.shape != (len(padded),):
            raise ArtifactError(
                f"expected logits (batch, frames, vocabulary) and one length per utterance, "
                f"found {logits.shape} and {frames.shape}"
            )
        return [row[:count] for row, count in zip(logits, frames.tolist(), strict=True)]

    def taps(self, waveform: Array) -> dict[str, Array]:
        """The manifest's taps of one waveform (samples,): name to (frames, width).

        A tap whose tensor the graph does not have is left out.
        """
        return {name: values[0] for name, values in self.fetch_taps(waveform).items()}

    def prepared(self, padded: Array, lengths: Sequence[int]) -> Array:
        """Normalised, where the graph does not do it."""
        normalisation = self._manifest.normalisation
        if normalisation.where == "graph" or normalisation.kind == "none":
            return padded
        normalised = padded.copy()
        for row, length in zip(normalised, lengths, strict=True):
            speech = row[:length]
            scale = np.sqrt(speech.var() + normalisation.epsilon)
            row[:length] = (speech - speech.mean()) / scale
        return normalised


def artifact_bytes(bundle: "AnyBundle") -> bytes:
    """The bundle's ONNX file. Raises ArtifactError when it is missing or cannot be read."""
    path = _artifact(bundle)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path.name} cannot be read ({error})") from error


def _artifact(bundle: "AnyBundle") -> Path:
    name = bundle.manifest.artifacts[0]
    try:
        return bundle.file(name)
    except LpaError as error:
        raise ArtifactError(f"{name} cannot be read ({error})") from error


def whole_model(bundle: "AnyBundle") -> "onnx.ModelProto":
    """The model with all its weights, those from a file beside it too.

    Raises ArtifactError when it is none, or its weights are missing.
    """
    from onnx.external_data_helper import load_external_data_for_model

    model = parsed(artifact_bytes(bundle))
    try:
        load_external_data_for_model(model, str(bundle.path))
    except Exception as error:  # onnx raises its own types for paths, ValueError for lengths
        raise ArtifactError(f"weights cannot be read: {_one_line(error)}") from error
    return model


def parsed(model: bytes) -> "onnx.ModelProto":
    """The model as a protobuf. Raises ArtifactError when it is none."""
    import onnx

    try:
        read = onnx.load_model_from_string(model)
    except Exception as error:  # protobuf's own DecodeError, whichever protobuf it is
        raise ArtifactError(f"not an ONNX model: {_one_line(error)}") from error
    if not read.graph.node:
        raise ArtifactError("not an ONNX model: no node in it")
    return read


def every_graph(graph: "onnx.GraphProto") -> "Iterator[onnx.GraphProto]":
    """A graph and, behind it, the bodies of its loops and branches, theirs too."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                if body.node:
                    yield from every_graph(body)


def every_node(graph: "onnx.GraphProto") -> "Iterator[onnx.NodeProto]":
    """The nodes of `every_graph`."""
    for part in every_graph(graph):
        yield from part.node


def open_session(
    model: bytes | Path,
    *,
    threads: int = THREADS,
    level: Level = "all",
    config: Mapping[str, str] | None = None,
    optimised: Path | None = None,
    folder: Path | None = None,
    long: bool = False,
) -> onnxruntime.InferenceSession:
    """A quiet CPU session that runs the same way each time.

    ``model``: a file, or its bytes, which the session then keeps beside its own copy.
    ``folder``: where weights lie that bytes keep in a file beside them.
    ``long``: for tensors of hundreds of megabytes. The runtime's arena keeps what is free, in
    regions that the next tensor may not fit into; without it an hour takes a third less memory and
    up to a fifth more time.

    ``level``: which rewrites the runtime makes first; the basic ones are all to standard operators
    and the same on every machine. The rewritten graph is written to ``optimised``.
    Raises ArtifactError with the runtime's own reason when it refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.graph_optimization_level = _LEVELS[level]
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    if folder is not None:
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(folder))
    options.enable_cpu_mem_arena = not long
    for key, value in (config or {}).items():
        options.add_session_config_entry(key, value)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises its own types, RuntimeError among them
        raise ArtifactError(f"ONNX Runtime refuses the model: {_one_line(error)}") from error


@cache
def clips_int8() -> bool:
    """Whether ONNX Runtime adds products of bytes in 16 bits here, clipped: x86 without VNNI.

    Tried, not looked up: the largest bytes in one product, 2 * 255 * 127 where sums are exact.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.full((2, 1), 127, np.int8), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["bytes", "weight"], ["sums"])],
        "largest",
        [helper.make_tensor_value_info("bytes", TensorProto.UINT8, (2, 2))],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, (2, 1))],
        [weight],
    )
    opsets = [helper.make_opsetid("", 20)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    session = open_session(model.SerializeToString(), threads=1)
    (sums,) = session.run(None, {"bytes": np.full((2, 2), 255, np.uint8)})
    return bool((sums != 2 * 255 * 127).any())


def with_unsigned_products(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """A copy of ``model`` whose int8 products have weights of uint8, 128 more, as their zeros are.

    The same numbers where sums are exact. ONNX Runtime's own ``session.x64quantprecision`` does so
    for products that have their weights in their own graph, so not for those in loops.
    """
    import onnx
    from onnx import numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), _ZERO))
    signed = {
        tensor.name: tensor
        for part in every_graph(copy.graph)
        for tensor in part.initializer
        if tensor.data_type == onnx.TensorProto.INT8
    }
    read = {_ZERO}
    for node in every_node(copy.graph):
        if node.op_type == "MatMulInteger":
            _, weight, of_bytes, given = (*node.input, "", "")[:4]
            zero = given or _ZERO
            if {weight, zero} <= signed.keys():
                node.input[2:] = of_bytes, zero
                read |= {weight, zero}
    for name in read:
        more = numpy_helper.to_array(signed[name]).astype(np.int16) + 128
        signed[name].CopyFrom(numpy_helper.from_array(more.astype(np.uint8), name))
    return copy


def with_outputs(model: "onnx.ModelProto", names: Sequence[str]) -> "onnx.ModelProto":
    """A copy of ``model`` with the named values as outputs too (their types are inferred)."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in copy.graph.output}
    for name in dict.fromkeys(names):
        if name not in present:
            copy.graph.output.append(onnx.ValueInfoProto(name=name))
    return copy


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
