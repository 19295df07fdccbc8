"""Lists of tensors against lists of Python, one operation at a time and in a whole program."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lpa_export.runtimes.coreml import Evaluator, Package, PackageError


def test_a_list_is_filled_read_scattered_and_gathered(package: Callable[..., Package]) -> None:
    """The program of coremltools' own test of lists; expected values from Python."""

    def body(mb: Any, x: Any, y: Any) -> Any:
        kept = mb.make_list(init_length=2, elem_shape=(2,))
        first = mb.list_read(ls=kept, index=0)
        kept = mb.list_write(ls=kept, index=0, value=x)
        kept = mb.list_write(ls=kept, index=4, value=y)
        kept = mb.list_scatter(
            ls=kept, indices=[2, 1], value=np.array([[-1, -2], [-4, -5]], np.float32)
        )
        return [
            mb.identity(x=first, name="first"),
            mb.list_read(ls=kept, index=0, name="again"),
            mb.list_gather(ls=kept, indices=[4, 2, 3], name="gathered"),
            mb.list_length(ls=kept, name="length"),
        ]

    evaluator = Evaluator(package(body, {"x": ((2,), "fp32"), "y": ((2,), "fp32")}))
    found = evaluator.run({"x": np.array([1, 2], np.float32), "y": np.array([3, 4], np.float32)})
    np.testing.assert_array_equal(found["first"], [0, 0])
    np.testing.assert_array_equal(found["again"], [1, 2])
    np.testing.assert_array_equal(found["gathered"], [[3, 4], [-1, -2], [0, 0]])
    assert int(found["length"]) == 5


def test_a_loop_fills_a_list(package: Callable[..., Package]) -> None:
    def body(mb: Any, x: Any) -> Any:
        kept = mb.make_list(init_length=1, elem_shape=(2,), dynamic_length=True)
        _, _, kept = mb.while_loop(
            _cond=lambda i, v, ls: mb.less(x=i, y=4),
            _body=lambda i, v, ls: (
                mb.add(x=i, y=1),
                mb.add(x=v, y=v),
                mb.list_write(ls=ls, index=i, value=v),
            ),
            loop_vars=(0, x, kept),
        )
        return mb.list_gather(ls=kept, indices=[0, 1, 2, 3], name="rows")

    x = np.array([1, -3], np.float32)
    found = Evaluator(package(body, {"x": ((2,), "fp32")})).run({"x": x})["rows"]
    np.testing.assert_array_equal(found, [x * 2**i for i in range(4)])


@pytest.mark.parametrize("index", [2, -1])
def test_a_place_outside_of_a_list_of_fixed_length_is_an_error(
    package: Callable[..., Package], index: int
) -> None:
    def body(mb: Any, x: Any, place: Any) -> Any:
        kept = mb.make_list(init_length=2, elem_shape=(2,), dynamic_length=False)
        kept = mb.list_write(ls=kept, index=mb.squeeze(x=place), value=x)
        return mb.list_read(ls=kept, index=0)

    specs = {"x": ((2,), "fp32"), "place": ((1,), "int32")}
    evaluator = Evaluator(package(body, specs))
    with pytest.raises(PackageError, match=rf"element {index} of a list of 2"):
        evaluator.run({"x": np.zeros(2, np.float32), "place": np.array([index], np.int32)})
