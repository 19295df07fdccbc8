"""Random operations against the moments of their distributions; the same numbers in every run."""

from typing import Any

import numpy as np
import pytest
import torch

from lpa_export.runtimes.coreml.call import Call
from lpa_export.runtimes.coreml.handlers.random import TABLE

COUNT = 20_000


def drawn(op: str, name: str = "op", **inputs: Any) -> Any:
    given = {
        key: value if isinstance(value, str) else torch.as_tensor(value)
        for key, value in inputs.items()
    }
    found = TABLE[op](Call(op, name, given, (torch.float32,)))
    assert isinstance(found, torch.Tensor)
    return found.numpy()


def test_a_uniform_draw_fills_its_interval() -> None:
    values = drawn("random_uniform", shape=[COUNT], low=-2.0, high=4.0, seed=3)
    assert -2 <= values.min() < -1.99 and 3.99 < values.max() < 4
    assert values.mean() == pytest.approx(1, abs=0.05)
    assert values.var() == pytest.approx(36 / 12, rel=0.03)


def test_a_normal_draw_has_its_mean_and_deviation() -> None:
    values = drawn("random_normal", shape=[COUNT // 2, 2], mean=5.0, stddev=3.0)
    assert values.shape == (COUNT // 2, 2)
    assert values.mean() == pytest.approx(5, abs=0.1)
    assert values.std() == pytest.approx(3, rel=0.02)


@pytest.mark.parametrize("prob", [0.0, 0.25, 1.0])
def test_ones_are_as_frequent_as_asked(prob: float) -> None:
    values = drawn("random_bernoulli", shape=[COUNT], prob=prob)
    assert set(np.unique(values)) <= {0, 1}
    assert values.mean() == pytest.approx(prob, abs=0.01)


@pytest.mark.parametrize("mode", ["probs", "logits"])
def test_categories_are_as_frequent_as_their_probabilities(mode: str) -> None:
    chances = np.array([[0.1, 0.2, 0.7], [0, 1, 0]], np.float32)
    with np.errstate(divide="ignore"):
        x = chances if mode == "probs" else np.log(chances)
    values = drawn("random_categorical", x=x, mode=mode, size=COUNT)
    assert values.shape == (2, COUNT)
    for row, expected in zip(values, chances, strict=True):
        np.testing.assert_allclose(
            np.bincount(row.astype(int), minlength=3) / COUNT, expected, atol=0.02
        )


def test_a_run_gives_the_same_numbers_again_and_two_operations_differ() -> None:
    first = drawn("random_normal", "a", shape=[8])
    np.testing.assert_array_equal(first, drawn("random_normal", "a", shape=[8]))
    assert not np.array_equal(first, drawn("random_normal", "b", shape=[8]))
    stated = drawn("random_normal", "a", shape=[8], seed=7)
    np.testing.assert_array_equal(stated, drawn("random_normal", "b", shape=[8], seed=7))
