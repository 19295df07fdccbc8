"""Multiply-accumulates against formulas worked out by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import get_new_symbol
from lpa_validate.rules.neural_engine import Graph, examine
from lpa_validate.rules.neural_engine.macs import macs


def weight(*shape: int) -> Any:
    return np.ones(shape, np.float16)


# op on an input, its shape, its multiply-accumulates.
COUNTS = [
    # 6 channels at 8 places, each over 4 channels and 3 taps.
    (lambda x: mb.conv(x=x, weight=weight(6, 4, 3)), (1, 4, 10), 6 * 8 * 4 * 3),
    # Two groups: each output sees 2 of the 4 channels.
    (lambda x: mb.conv(x=x, weight=weight(6, 2, 1, 3), groups=2), (1, 4, 1, 10), 6 * 8 * 2 * 3),
    # Depthwise, every second place.
    (
        lambda x: mb.conv(x=x, weight=weight(4, 1, 1, 3), groups=4, strides=[1, 2]),
        (1, 4, 1, 11),
        4 * 5 * 3,
    ),
    # Every one of 4 x 5 inputs goes to 6 channels by 3 taps.
    (lambda x: mb.conv_transpose(x=x, weight=weight(4, 6, 3)), (1, 4, 5), 4 * 5 * 6 * 3),
    (lambda x: mb.linear(x=x, weight=weight(3, 5)), (2, 7, 5), 2 * 7 * 5 * 3),
    (lambda x: mb.matmul(x=x, y=weight(5, 3)), (2, 7, 5), 2 * 7 * 5 * 3),
    (lambda x: mb.matmul(x=x, y=weight(5, 3), transpose_x=True), (2, 5, 7), 2 * 7 * 5 * 3),
    (lambda x: mb.matmul(x=x, y=weight(3, 5), transpose_y=True), (2, 7, 5), 2 * 7 * 5 * 3),
    (lambda x: mb.matmul(x=x, y=x, transpose_y=True), (2, 3, 7, 5), 2 * 3 * 7 * 7 * 5),
    # b1 c2 h3 q4 by b1 k4 h3 q5: the products of 2 x 3 x 4 x 5 index values.
    (
        lambda x: mb.einsum(values=(x, weight(1, 4, 3, 5)), equation="bchk,bkhq->bchq"),
        (1, 2, 3, 4),
        2 * 3 * 4 * 5,
    ),
    (lambda x: mb.add(x=x, y=x), (2, 7, 5), 0),
    (lambda x: mb.reduce_sum(x=x), (2, 7, 5), 0),
]


@pytest.mark.parametrize(("build", "shape", "count"), COUNTS)
def test_multiply_accumulates_are_those_of_a_hand_count(
    build: Callable[..., Any], shape: Any, count: int, graph_of: Callable[..., Graph]
) -> None:
    assert sum(macs(op) or 0 for op in graph_of(build, shape).ops) == count


def test_native_attention_counts_scores_and_values(graph_of: Callable[..., Graph]) -> None:
    def attend(x: Any, y: Any) -> Any:
        return mb.scaled_dot_product_attention(query=x, key=y, value=weight(2, 3, 9, 5))

    # 2 x 3 heads: 7 queries by 9 keys over 4 numbers, then 7 by 5 values over 9 keys.
    graph = graph_of(attend, (2, 3, 7, 4), (2, 3, 9, 4))
    assert macs(graph.ops[-1]) == 2 * 3 * (7 * 9 * 4 + 7 * 5 * 9)


def test_multiply_accumulates_of_an_open_size_are_not_guessed(
    graph_of: Callable[..., Graph],
) -> None:
    graph = graph_of(lambda x: mb.conv(x=x, weight=weight(6, 4, 3)), (1, 4, get_new_symbol()))
    found = examine(graph)
    assert (found.macs, found.uncounted) == (0, 1)
    assert found.free_of_fatal.macs == 100.0  # the share of the operations, without any work
