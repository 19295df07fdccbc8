"""The rules: what is said about each stands in ``rules.json``, how it is recognised here.

Core ML's own compiler may rewrite around what was met on private interfaces (sources G and O):
a rule that rests on them alone is to be confirmed with MLComputePlan. Nothing in the table was
measured by this project.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from lpa_validate.rules.neural_engine.conditions import (
    FunctionCondition,
    OpCondition,
    attention,
    compression,
    convolution,
    kinds,
    layout,
    numbers,
    shapes,
    types,
)

__all__ = [
    "AGREEMENT",
    "FUNCTION_CONDITIONS",
    "MANY_ISLANDS",
    "OP_CONDITIONS",
    "Rule",
    "Severity",
    "all_rules",
    "label",
    "sources",
]

AGREEMENT = Path(__file__).with_name("agreement.json")
"""How the rules fared against published placements; ``agreement.py`` counts and writes it."""

Severity = Literal["fatal", "performance", "risk", "info"]
"""fatal: the operation (or function) leaves the Neural Engine, or gives wrong numbers on it."""

OP_CONDITIONS: Mapping[str, OpCondition] = {
    "shape.rank": shapes.rank_above_five,
    "shape.rank_batch": shapes.batches_of_rank_five,
    "shape.extent": shapes.too_wide,
    "layout.bc1s": layout.channels_last,
    "layout.transposes": layout.moves_innermost_axis,
    "dtype.fp32": types.computes_in_wide_type,
    "dtype.fp32_literal": types.widens_to_fp32,
    "op.none": kinds.kind_of(*kinds.NO_PATH),
    "op.cumsum": kinds.kind_of("cumsum"),
    "op.gather": kinds.kind_of("gather", "gather_along_axis", "gather_nd"),
    "op.topk": kinds.kind_of("topk", "argsort"),
    "op.trig": kinds.kind_of("sin", "cos"),
    "op.argreduce": kinds.kind_of("reduce_argmax", "reduce_argmin"),
    "op.identity": kinds.kind_of("identity"),
    "op.resample": kinds.kind_of("resample"),
    "op.gather_constant": kinds.constant_positions,
    "op.gather_rows": kinds.large_table,
    "op.slice_update": kinds.update_outside_a_state,
    "op.square_product": kinds.product_with_itself,
    "op.quantize": kinds.quantized_activations,
    "conv.kernel_w": convolution.wide_kernel,
    "conv.stride": convolution.awkward_stride,
    "conv.dilation": convolution.awkward_dilation,
    "conv.groups": convolution.awkward_groups,
    "conv.channels": convolution.channels_not_divisible,
    "conv.transposed": convolution.uneven_transposed_strides,
    "pool": convolution.awkward_pool,
    "norm.decomposed": kinds.decomposed_norm,
    "reduce.long": kinds.long_reduction,
    "attn.sdpa": attention.native_attention,
    "attn.mask_ignored": attention.ignored_mask,
    "attn.mask_inf": attention.infinite_mask,
    "num.range": numbers.out_of_range,
    "num.underflow": numbers.underflows,
    "num.lut": kinds.kind_of("sigmoid", "gelu", "tanh", "softmax"),
    "num.nan": numbers.not_a_number,
    "quant.fmt": compression.compressed_weights,
    "quant.int4": compression.four_bit_blocks,
    "quant.stride": convolution.palettized_stride,
    "concat.axis": kinds.axis_not_constant,
    "pad.channels": kinds.pads_channels,
    "state": kinds.kind_of("read_state", "write_state", "coreml_update_state"),
}
"""Rule id -> how an operation meets it."""

FUNCTION_CONDITIONS: Mapping[str, FunctionCondition] = {
    "shape.dynamic": shapes.range_shapes,
    "shape.enumerated": shapes.enumerated_shapes,
    "shape.tiny": shapes.small_graph,
    "layout.last_axis": layout.padded_last_axis,
    "size.ios": shapes.weights_too_large,
    "size.ops": shapes.many_operations,
    "io.strides": layout.strided_outputs,
}
"""Rule id -> how a function meets it: its inputs, its outputs, its size."""

MANY_ISLANDS = "region.count"
"""The rule on the number of islands off the Neural Engine; it follows from the other rules."""

_INDEPENDENT = frozenset("AMFHP")


@dataclass(frozen=True)
class Rule:
    """What is said about one rule.

    ``sources`` are codes of ``sources()``, each with its place. ``whole``: where a function meets
    it, it holds for every operation in it. ``in_place``: what meets it stays where it is, and is
    wrong there. ``engines``: chips that it is fatal on although it is not on the others.
    """

    id: str
    severity: Severity
    why: str
    fix: str
    sources: tuple[str, ...]
    whole: bool = False
    in_place: bool = False
    engines: tuple[str, ...] = ()

    def on(self, engine: str | None) -> "Rule":
        """The rule as it is on that chip (None: on any)."""
        return replace(self, severity="fatal") if engine in self.engines else self

    @property
    def moves(self) -> bool:
        """Whether an operation that meets it is not on the Neural Engine."""
        return self.severity == "fatal" and not self.in_place

    @property
    def confirm(self) -> bool:
        """Whether it rests on private interfaces alone, to be confirmed with MLComputePlan."""
        return not {source[0] for source in self.sources} & _INDEPENDENT


@cache
def all_rules() -> Mapping[str, Rule]:
    """Id -> rule, in the order of the table."""
    return {
        name: Rule(
            name,
            entry["severity"],
            entry["why"],
            entry["fix"],
            tuple(entry["sources"]),
            entry.get("whole", False),
            entry.get("in_place", False),
            tuple(entry.get("engines", ())),
        )
        for name, entry in _table()["rules"].items()
    }


def sources() -> Mapping[str, str]:
    """Source code (a letter) -> what it stands for."""
    found: Mapping[str, str] = _table()["sources"]
    return found


@cache
def label() -> str:
    """What every prediction is called: how often such predictions were right elsewhere."""
    counted = json.loads(AGREEMENT.read_text("utf-8"))
    return f"predicted (agrees with {counted['agree']} of {counted['of']} published placements)"


@cache
def _table() -> dict[str, Any]:
    place = resources.files("lpa_validate") / "rules" / "neural_engine" / "rules.json"
    table: dict[str, Any] = json.loads(place.read_text("utf-8"))
    return table
