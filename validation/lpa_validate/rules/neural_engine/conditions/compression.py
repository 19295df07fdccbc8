"""Compressed weights: what their format gains on which generation."""

from lpa_validate.rules.neural_engine.graph import Graph, Op

__all__ = ["compressed_weights", "four_bit_blocks"]

_FORMATS = {
    "constexpr_affine_dequantize": "affine",
    "constexpr_blockwise_shift_scale": "blockwise",
    "constexpr_lut_to_dense": "palettized",
    "constexpr_lut_to_sparse": "palettized and sparse",
    "constexpr_sparse_to_dense": "sparse",
    "constexpr_sparse_blockwise_shift_scale": "blockwise and sparse",
}


def compressed_weights(op: Op, graph: Graph) -> str:
    formats = {_FORMATS.get(value.unpacked_by, "") for value in op.read} - {""}
    return ", ".join(sorted(formats))


def four_bit_blocks(op: Op, graph: Graph) -> str:
    """Integers of four bits with a scale per channel or block; palettes are another matter."""
    return "int4 weights" if any(value.bits == 4 for value in op.read) else ""
