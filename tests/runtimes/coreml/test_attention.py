"""Attention as one operation against a loop over queries, in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Compute = Callable[..., Any]

BATCH, QUERIES, KEYS, WIDTH, OUT = (2, 3), 4, 5, 6, 7


def attended(query: Any, key: Any, value: Any, mask: Any) -> Any:
    """Each query's own weighted mean of the values; ``mask`` is added to the scores."""
    mask = np.broadcast_to(mask, (*BATCH, QUERIES, KEYS))
    result = np.zeros((*BATCH, QUERIES, OUT))
    for b, h, q in np.ndindex(*BATCH, QUERIES):
        scores = key[b, h].astype(float) @ query[b, h, q] / np.sqrt(WIDTH) + mask[b, h, q]
        weights = np.exp(scores - scores.max())
        result[b, h, q] = weights @ value[b, h] / weights.sum()
    return result


@pytest.mark.parametrize("kind", ["none", "float", "bool", "row"])
def test_scaled_dot_product_attention(compute: Compute, folded: Compute, kind: str) -> None:
    generator = np.random.default_rng(0)
    query, key, value = (
        generator.normal(size=(*BATCH, *shape)).astype(np.float32)
        for shape in ((QUERIES, WIDTH), (KEYS, WIDTH), (KEYS, OUT))
    )
    seen = np.tril(np.ones((QUERIES, KEYS), np.bool_))
    masks: dict[str, Any] = {
        "none": None,
        "float": generator.normal(size=(*BATCH, QUERIES, KEYS)).astype(np.float32),
        "bool": seen,
        "row": np.array([[0, -1e4, 0, 0, -1e4]], np.float32),
    }
    mask = masks[kind]
    added = 0.0 if mask is None else np.where(mask, 0, -np.inf) if kind == "bool" else mask
    given = {"query": query, "key": key, "value": value} | (
        {} if mask is None else {"attn_mask": mask}
    )
    found = compute("scaled_dot_product_attention", **given)
    np.testing.assert_allclose(found, attended(query, key, value, added), rtol=1e-4, atol=1e-5)
    theirs = folded("scaled_dot_product_attention", **given)
    np.testing.assert_allclose(found, theirs, rtol=1e-4, atol=1e-5)
