"""What an XNNPACK delegate computes, read from the data that its backend is given.

``backends/xnnpack/serialization/schema.fbs`` of ExecuTorch: a graph of XNNPACK's own nodes, whose
weights lie behind it or in the named data of the program.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.executorch.flatbuffer import Buffer

__all__ = ["BACKEND", "MATRIX", "XnnGraph", "read_graph"]

BACKEND = "XnnpackBackend"

_MAGIC = b"XH00"
_HEADER_BYTES = 30
_IDENTIFIER = b"XN01"

# The union XNodeUnion in its order; 0 is "no node".
_NODES = (
    "none add fully_connected softmax sigmoid static_transpose clamp conv2d div "
    "static_resize_bilinear static_constant_pad avg_pooling minimum depthwise_conv2d max_pooling "
    "multiply subtract floor convert global_avg_pooling static_reshape argmax_pooling square_root "
    "ceiling hardswish leaky_relu maximum negate square elu abs prelu concatenate2 concatenate3 "
    "concatenate4 static_slice scaled_dot_product_attention batch_matrix_multiply concatenate5 "
    "conv_transpose2d reciprocal_square_root log gelu tanh exp sin copy cos"
).split()

MATRIX = frozenset({"fully_connected", "conv2d", "depthwise_conv2d", "conv_transpose2d"})
"""Nodes that do linear layers and convolutions."""


@dataclass(frozen=True)
class XnnGraph:
    """Nodes by kind; ``weights`` maps the name of each named constant to its bytes."""

    nodes: Mapping[str, int]
    weights: Mapping[str, int]
    inline_weight_bytes: int


def read_graph(data: bytes) -> XnnGraph:
    """The graph in the data of one delegate. Raises ArtifactError for data that holds none."""
    if data[4:8] != _MAGIC or len(data) < _HEADER_BYTES:
        raise ArtifactError("an XNNPACK delegate is damaged")
    start, size = (int.from_bytes(data[i : i + 4], "little") for i in (10, 14))
    graph = data[start : start + size]
    if len(graph) != size or graph[4:8] != _IDENTIFIER:
        raise ArtifactError("an XNNPACK delegate is damaged, or of a newer schema than XN01")
    root = Buffer(graph).root
    kinds = Counter(_kind(node.number(0, "B")) for node in root.tables(1))
    weights: dict[str, int] = {}
    inline = 0
    for entry in root.tables(8):
        name, count = entry.text(2), entry.number(1, "Q")
        if name:
            weights[name] = count
        else:
            inline += count
    return XnnGraph(dict(kinds), weights, inline)


def _kind(number: int) -> str:
    return _NODES[number] if number < len(_NODES) else f"kind {number}"
