"""An ONNX graph made concrete: every tensor's shape and type for one input.

Shapes come from running the model, not from inferring them: what shape inference cannot follow
(ranges, gathers by computed index) is then no gap in the MAC count.
"""

import tempfile
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.onnx import every_graph, every_node, open_session, with_outputs

if TYPE_CHECKING:
    import onnx

__all__ = ["ConcreteGraph", "Node", "concrete_graph", "fixed_shapes", "op_name"]

Shape = tuple[int, ...]
Array = np.ndarray[Any, Any]

# What holds no computation: the runtime turns it into weights when it loads the model.
_NOT_COUNTED = frozenset({"ai.onnx:Constant"})

_SCAN = "ai.onnx:Scan"


@dataclass(frozen=True)
class Node:
    """One operation. ``op`` is "domain:type"; an absent optional input has the name "".

    ``constant`` are the input positions that hold weights; ``from_ops`` the op that makes each
    input ("" for weights and graph inputs). A Scan has the nodes of its ``body``, as one of its
    ``turns`` runs them.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    input_shapes: tuple[Shape, ...] = ()
    input_types: tuple[str, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    constant: frozenset[int] = frozenset()
    from_ops: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    body: tuple["Node", ...] = ()
    turns: int = 1


@dataclass(frozen=True)
class ConcreteGraph:
    """Nodes in topological order. Bodies of If, Loop and Scan count as the one node.

    That of a Scan is in it, as `Node.body`.
    """

    nodes: tuple[Node, ...]


def op_name(node: "onnx.NodeProto") -> str:
    """ "domain:type", the standard domain spelt out as the providers' lists do."""
    return f"{node.domain or 'ai.onnx'}:{node.op_type}"


def fixed_shapes(model: "onnx.ModelProto", shapes: Mapping[str, Shape]) -> "onnx.ModelProto":
    """``model`` with the named inputs fixed to ``shapes`` and ONNX Runtime's basic optimisation.

    That is the graph a provider gets to see: the runtime folds constants before it partitions.
    Raises ArtifactError when the runtime refuses the model.
    """
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dimension, size in zip(
            value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False
        ):
            dimension.dim_value = size
    # What was inferred for dynamic shapes would contradict the fixed ones.
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    return _optimised(fixed)


def _optimised(model: "onnx.ModelProto") -> "onnx.ModelProto":
    import onnx

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            return _with_unique_names(onnx.load(path))
        except Exception as error:  # the runtime raises its own types, RuntimeError among them
            raise ArtifactError(" ".join(str(error).split())) from error


def _with_unique_names(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The model with other names, in place, for what bodies hold under names of other graphs.

    The runtime's rewrites name what they add in each graph by itself, and refuse to read it then.
    """
    taken: set[str] = set()
    for number, graph in enumerate(every_graph(model.graph)):
        made = {tensor.name for tensor in graph.initializer}
        made |= {name for node in graph.node for name in node.output if name}
        new = {name: f"{name}.body_{number}" for name in made & taken}
        taken |= made
        for node in every_node(graph) if new else ():
            node.input[:] = [new.get(name, name) for name in node.input]
            node.output[:] = [new.get(name, name) for name in node.output]
        for value in (*graph.initializer, *graph.output):
            value.name = new.get(value.name, value.name)
        # Shapes that were noted under the old names.
        del graph.value_info[:]
    return model


def concrete_graph(model: "onnx.ModelProto", inputs: Mapping[str, Array]) -> ConcreteGraph:
    """Run ``model`` once on ``inputs`` and note the shape and type of every tensor.

    The body of a Scan is run by itself for its first turn: all its turns have the same shapes.
    Raises ArtifactError when it does not run.
    """
    import onnx

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    known: dict[str, tuple[Shape, str]] = {
        name: (tuple(tensor.dims), _dtype(tensor.data_type)) for name, tensor in weights.items()
    }
    known |= {name: (array.shape, str(array.dtype)) for name, array in inputs.items()}
    scans = [node for node in model.graph.node if op_name(node) == _SCAN]
    computed, arrays = _computed(model, inputs, _read_by(scans))
    known |= computed
    arrays |= inputs
    makers = {name: node for node in model.graph.node for name in node.output if name}
    constants = set(weights) | {
        name for name, node in makers.items() if op_name(node) in _NOT_COUNTED
    }
    nodes = []
    for node in model.graph.node:
        if op_name(node) in _NOT_COUNTED:
            continue
        read = [known.get(name, ((), "")) for name in node.input]
        turns, body = 1, ConcreteGraph(())
        if op_name(node) == _SCAN:
            turns, turn, given = _first_turn(model, node, arrays)
            body = concrete_graph(turn, given)
        nodes.append(
            Node(
                node.name or (node.output[0] if node.output else ""),
                op_name(node),
                tuple(node.input),
                tuple(node.output),
                tuple(shape for shape, _ in read),
                tuple(dtype for _, dtype in read),
                tuple(known.get(name, ((), ""))[0] for name in node.output),
                frozenset(i for i, name in enumerate(node.input) if name in constants),
                tuple(
                    op_name(makers[name]) if name in makers and name not in constants else ""
                    for name in node.input
                ),
                {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute},
                body.nodes,
                turns,
            )
        )
    return ConcreteGraph(tuple(nodes))


def _read_by(scans: Iterable["onnx.NodeProto"]) -> set[str]:
    """Names of all that scans read, their bodies too."""
    names: set[str] = set()
    for scan in scans:
        (body,) = (item.g for item in scan.attribute if item.name == "body")
        names.update(scan.input, *(node.input for node in every_node(body)))
    return names


def _first_turn(
    model: "onnx.ModelProto", scan: "onnx.NodeProto", arrays: Mapping[str, Array]
) -> tuple[int, "onnx.ModelProto", dict[str, Array]]:
    """How many turns a scan takes, its body as a model, and what that is given in the first one.

    Raises ArtifactError for a scan along another axis than the first.
    """
    import onnx

    attributes = {item.name: item for item in scan.attribute}
    if "scan_input_axes" in attributes and any(attributes["scan_input_axes"].ints):
        raise ArtifactError(f"{scan.name}: a Scan along another axis than the first")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}

    def value(name: str) -> Array:
        return onnx.numpy_helper.to_array(weights[name]) if name in weights else arrays[name]

    body = attributes["body"].g
    states = len(scan.input) - attributes["num_scan_inputs"].i
    given = {name: arrays[name] for name in _read_by([scan]) if name in arrays}
    given |= {
        formal.name: value(name) if index < states else np.asarray(value(name)[0])
        for index, (formal, name) in enumerate(zip(body.input, scan.input, strict=True))
    }
    graph = onnx.helper.make_graph(
        body.node,
        body.name or "body",
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in given.items()
        ],
        body.output,
        [*body.initializer, *(weights[name] for name in _read_by([scan]) if name in weights)],
    )
    made = onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    return len(value(scan.input[states])), made, given


def _computed(
    model: "onnx.ModelProto", inputs: Mapping[str, Array], kept: Container[str]
) -> tuple[dict[str, tuple[Shape, str]], dict[str, Array]]:
    """Shape and type of every value that the model computes, and those that are ``kept``."""
    names = [name for node in model.graph.node for name in node.output if name]
    session = open_session(with_outputs(model, names).SerializeToString(), level="none")
    wanted = {value.name for value in session.get_inputs()}
    found: dict[str, tuple[Shape, str]] = {}
    arrays: dict[str, Array] = {}
    for group in _groups(names):
        try:
            values = session.run(group, {k: v for k, v in inputs.items() if k in wanted})
        except Exception as error:  # the runtime raises its own types, RuntimeError among them
            raise ArtifactError(" ".join(str(error).split())) from error
        for name, value in zip(group, values, strict=True):
            if isinstance(value, np.ndarray):
                found[name] = (value.shape, str(value.dtype))
                if name in kept:
                    arrays[name] = value
    return found, arrays


def _groups(names: Sequence[str], size: int = 400) -> list[list[str]]:
    """Runs of names: the tensors of a large model do not all fit in memory at once."""
    return [list(names[start : start + size]) for start in range(0, len(names), size)]


def _dtype(data_type: int) -> str:
    import onnx

    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(data_type))
    except KeyError:
        return ""
