"""Constants of a function as tensors: made when first used, shared where they are equal."""

import warnings
from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lpa_export.runtimes.coreml.arithmetic import round_to_half
from lpa_export.runtimes.coreml.call import Call, Handler
from lpa_export.runtimes.coreml.plan import declared

__all__ = ["Constants", "as_tensor"]

_LARGE = 1 << 16
"""Elements from which on a float16 constant is kept so: widening it costs less than its use."""


class Constants:
    """The values of constant variables, compressed ones decompressed once.

    Large float16 weights lie in memory once, as the package has them, and are widened for every
    use: half the memory of a float32 copy kept beside them.

    ``shared`` carries tensors between evaluators of one package under the keys of
    ``Package.constant_keys``; it holds them weakly, so weights go when the last user goes.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        keys: Mapping[str, bytes],
        shared: MutableMapping[bytes, Tensor],
    ) -> None:
        self._handlers = handlers
        self._keys = keys
        self._shared = shared
        self._values: dict[Any, Any] = {}

    def value(self, variable: Any) -> Any:
        """The value of a constant variable: a tensor, a text, or what the program holds."""
        if variable not in self._values:
            self._values[variable] = self._fetched(variable)
        found = self._values[variable]
        narrow = isinstance(found, Tensor) and found.dtype is torch.float16
        return found.float() if narrow else found

    def _fetched(self, variable: Any) -> Any:
        key = self._keys.get(variable.name)
        found = self._shared.get(key) if key else None
        if found is None:
            found = self._made(variable)
            if key and isinstance(found, Tensor):
                self._shared[key] = found
        return found

    def _made(self, variable: Any) -> Any:
        operation = variable.op
        if operation.op_type == "const":
            return _as_stored(variable.val)
        # Its parts are used this once: not worth keeping beside the result.
        inputs = {
            name: as_tensor(value.val) if value.op.op_type == "const" else self.value(value)
            for name, value in operation.inputs.items()
            if value is not None
        }
        types = tuple(map(declared, operation.outputs))
        call = Call(operation.op_type, operation.name, inputs, types)
        found = self._handlers[operation.op_type](call)
        results = found if isinstance(found, tuple) else (found,)
        # All outputs come at once: the others are kept for when they are asked for. A compressed
        # weight that is declared float16 is one, whatever the arithmetic of the run.
        for output, result, kind in zip(operation.outputs, results, types, strict=True):
            self._values[output] = _rounded(result) if kind is torch.float16 else result
        return self._values[variable]


def _rounded(weight: Tensor) -> Tensor:
    return weight.half() if weight.numel() >= _LARGE else round_to_half(weight)


def _as_stored(value: Any) -> Any:
    """As ``as_tensor``, but for large float16 arrays: those share the memory of the program."""
    large = isinstance(value, np.ndarray) and value.size >= _LARGE
    if not large or value.dtype != np.float16:
        return as_tensor(value)
    with warnings.catch_warnings():
        # It may not be written to, and nobody does: every use is a widened copy.
        warnings.simplefilter("ignore")
        return torch.from_numpy(value)


def as_tensor(value: Any) -> Any:
    """A constant of a program the way handlers take it; texts and tuples stay as they are."""
    if not isinstance(value, np.ndarray | np.generic | bool | int | float):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "iu":
        array = array.astype(np.int32 if array.dtype.itemsize < 8 else np.int64)
    elif array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype.kind != "b":
        return value
    return torch.from_numpy(array if array.flags.writeable else array.copy())
