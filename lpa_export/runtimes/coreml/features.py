"""What a function takes: names, types and shapes, and whether given values fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lpa_export.runtimes.coreml.errors import InputError

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Function

__all__ = ["Feature", "check_inputs", "features_of"]

_KINDS = {"f": "floating point", "i": "integers", "u": "integers", "b": "truth values"}


@dataclass(frozen=True)
class Feature:
    """One input of a function.

    ``bounds`` are the smallest and largest size per axis (None: no upper end); ``listed`` are
    the only shapes allowed where the package enumerates them.
    """

    name: str
    dtype: str
    bounds: tuple[tuple[int, int | None], ...]
    listed: tuple[tuple[int, ...], ...] = ()

    @property
    def fixed(self) -> bool:
        """Whether there is one shape only."""
        return len(self.listed) == 1 or all(low == high for low, high in self.bounds)

    def admits(self, shape: Sequence[int]) -> bool:
        """Whether a value may have this shape."""
        if self.listed:
            return tuple(shape) in self.listed
        return len(shape) == len(self.bounds) and all(
            low <= size and (high is None or size <= high)
            for size, (low, high) in zip(shape, self.bounds, strict=True)
        )

    @property
    def expected(self) -> str:
        """The shapes it takes, in words."""
        if self.listed:
            return " or ".join(map(str, self.listed))
        sizes = (
            str(low) if low == high else f"{low}..{'' if high is None else high}"
            for low, high in self.bounds
        )
        return f"({', '.join(sizes)}{',' if len(self.bounds) == 1 else ''})"


def features_of(model: Any, function: "Function", name: str) -> dict[str, Feature]:
    """The inputs of a function: types from the program, ranges from the description."""
    from coremltools.converters.mil.mil import types

    described = {feature.name: feature.type for feature in _described(model, name)}
    found = {}
    for key, value in function.inputs.items():
        if types.is_state(value.sym_type):
            continue
        dtype = types.builtin_to_string(value.dtype)
        bounds = tuple(_bound(size) for size in value.sym_type.get_shape())
        array = described[key].multiArrayType if key in described else None
        found[key] = _flexible(key, dtype, bounds, array)
    return found


def _described(model: Any, name: str) -> Sequence[Any]:
    for function in model.description.functions:
        if function.name == name:
            return list(function.input)
    return list(model.description.input)


def _bound(size: Any) -> tuple[int, int | None]:
    return (int(size), int(size)) if isinstance(size, int | np.integer) else (1, None)


def _flexible(
    name: str, dtype: str, bounds: tuple[tuple[int, int | None], ...], array: Any
) -> Feature:
    kind = array.WhichOneof("ShapeFlexibility") if array is not None else None
    if kind == "enumeratedShapes":
        shapes = tuple(tuple(item.shape) for item in array.enumeratedShapes.shapes)
        return Feature(name, dtype, bounds, shapes)
    if kind == "shapeRange":
        ranges = array.shapeRange.sizeRanges
        bounds = tuple(
            (int(item.lowerBound), None if item.upperBound < 0 else int(item.upperBound))
            for item in ranges
        )
    return Feature(name, dtype, bounds)


_INT32 = np.iinfo(np.int32)


def check_inputs(
    features: Mapping[str, Feature], values: Mapping[str, npt.NDArray[Any]], function: str
) -> None:
    """Raises InputError, one line, when names, shapes or kinds of values are not as declared."""
    if not isinstance(values, Mapping):
        raise InputError(
            f"function {function} takes its inputs by name; found {type(values).__name__}"
        )
    missing, unknown = features.keys() - values.keys(), values.keys() - features.keys()
    if missing or unknown:
        raise InputError(
            f"function {function} takes {', '.join(features) or 'no inputs'}; "
            f"found {', '.join(values) or 'none'}"
        )
    for name, feature in features.items():
        value = values[name]
        if not isinstance(value, np.ndarray):
            raise InputError(
                f"input {name} of {function}: expected a NumPy array of shape {feature.expected}, "
                f"found {type(value).__name__}"
            )
        if not feature.admits(value.shape):
            raise InputError(
                f"input {name} of {function}: expected shape {feature.expected}, "
                f"found {value.shape}"
            )
        wanted = _KINDS.get(np.dtype(_numpy_name(feature.dtype)).kind)
        if _KINDS.get(value.dtype.kind) != wanted:
            raise InputError(
                f"input {name} of {function}: expected {wanted} ({feature.dtype}), "
                f"found {value.dtype}"
            )
        beyond = value.dtype.kind in "iu" and value.size
        if beyond and not _INT32.min <= int(value.min()) <= int(value.max()) <= _INT32.max:
            raise InputError(f"input {name} of {function}: expected int32, found larger integers")


def _numpy_name(dtype: str) -> str:
    return {"fp16": "float16", "fp32": "float32", "fp64": "float64"}.get(dtype, dtype)
