"""The pessimistic arithmetic against its definition: slow sums in NumPy, reported table errors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch

from lpa_export.runtimes.coreml import Arithmetic, Evaluator, Package
from lpa_export.runtimes.coreml.handlers.tables import TABLES, softmax

GRID = torch.linspace(-12, 12, 200_001)
REPORTED = {"sigmoid": 0.0034, "gelu": 0.0059, "tanh": 0.0017}
"""sbryngelson/ane-guide, chapter 3."""


def exact(op: str, x: Any) -> Any:
    """In float64, by scipy."""
    if op == "gelu":
        return x * scipy.special.ndtr(x)
    return scipy.special.expit(x) if op == "sigmoid" else np.tanh(x)


@pytest.mark.parametrize("op", REPORTED)
def test_a_table_errs_as_much_as_was_reported(op: str) -> None:
    error = np.abs(TABLES[op](GRID).numpy() - exact(op, GRID.double().numpy())).max()
    assert 0.8 * REPORTED[op] < error < 1.05 * REPORTED[op]


def test_tables_keep_limits_and_what_is_no_number() -> None:
    x = torch.tensor([-1e4, 1e4, float("inf"), -float("inf"), float("nan")])
    assert TABLES["sigmoid"](x)[:4].tolist() == [0, 1, 1, 0]
    assert TABLES["gelu"](x)[:3].tolist() == [0, 1e4, float("inf")]
    assert TABLES["tanh"](x)[:4].tolist() == [-1, 1, 1, -1]
    assert all(bool(TABLES[op](x)[4].isnan()) for op in TABLES)


def test_a_softmax_by_table_is_close_and_sums_to_one() -> None:
    x = torch.randn(7, 40, generator=torch.Generator().manual_seed(0)) * 5
    x[0, 3] = -float("inf")
    found = softmax(x, -1)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-6)
    expected = scipy.special.softmax(x.double().numpy(), -1)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-12)
    assert found[0, 3] == 0


def tiled(x: Any, weight: Any, tile: int) -> Any:
    """Rows of x by rows of weight, the running sum a float16 after every tile."""
    total = np.zeros((len(x), len(weight)), np.float16)
    for start in range(0, x.shape[1], tile):
        part = slice(start, start + tile)
        products = x[:, part].astype(np.float64) @ weight[:, part].T.astype(np.float64)
        total = (total.astype(np.float64) + products).astype(np.float16)
    return total


@pytest.mark.parametrize("kind", ["linear", "matmul", "conv"])
def test_product_sums_are_rounded_after_every_tile(
    package: Callable[..., Package], kind: str
) -> None:
    random = np.random.default_rng(0)
    x = (100 + random.normal(size=(3, 200))).astype(np.float16)
    # Sums that grow and shrink again: what is rounded on the way is lost.
    weight = np.abs(random.normal(size=(5, 200))).astype(np.float16)
    weight[:, 100:] *= -1

    def body(mb: Any, x: Any) -> Any:
        if kind == "linear":
            return mb.linear(x=x, weight=weight, name="y")
        if kind == "matmul":
            return mb.matmul(x=x, y=weight, transpose_y=True, name="y")
        turned = mb.expand_dims(x=mb.transpose(x=x, perm=[1, 0]), axes=[0])
        found = mb.conv(x=turned, weight=weight[:, :, None])
        return mb.transpose(x=mb.squeeze(x=found, axes=[0]), perm=[1, 0], name="y")

    loaded = package(body, {"x": (x.shape, "fp16")})
    tile = Arithmetic.FP16_PESSIMISTIC.tile
    run = Evaluator(loaded, arithmetic=Arithmetic.FP16_PESSIMISTIC).run({"x": x})
    (found,) = run.values()
    expected = tiled(x, weight, tile).astype(np.float64)
    # The wide products of a tile are float32 here: now and then the last bit of a float16 moves.
    np.testing.assert_allclose(found, expected, atol=4.0)
    assert np.mean(found == expected) > 0.7
    (usual,) = Evaluator(loaded, arithmetic=Arithmetic.FP16).run({"x": x}).values()
    exactly = x.astype(np.float64) @ weight.T.astype(np.float64)
    assert np.abs(found - exactly).max() > 4 * np.abs(usual - exactly).max()


def test_grouped_convolutions_are_tiled_within_their_groups(
    package: Callable[..., Package],
) -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(1, 96, 9)).astype(np.float16)
    weight = random.normal(size=(4, 48, 3)).astype(np.float16)
    loaded = package(
        lambda mb, x: mb.conv(x=x, weight=weight, groups=2, bias=np.ones(4, np.float16), name="y"),
        {"x": (x.shape, "fp16")},
    )
    (found,) = Evaluator(loaded, arithmetic=Arithmetic.FP16_PESSIMISTIC).run({"x": x}).values()
    image, kernel = (torch.tensor(values.astype(np.float32)) for values in (x, weight))
    expected = torch.conv1d(image, kernel, groups=2) + 1
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert not np.array_equal(found, expected.half().float())
