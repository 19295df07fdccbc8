"""Lists of tensors of one shape, which converted TensorFlow loops fill step by step."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE", "TensorList"]

_TYPES = {"bool": torch.bool, "fp16": torch.float32, "fp32": torch.float32, "int32": torch.int32}
_MOST_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class TensorList:
    """A list: writing to it makes another one. Elements that nobody wrote are zeros (None here).

    ``shape`` is that of an element, None where only the first one written tells it.
    """

    elements: tuple[Tensor | None, ...]
    shape: tuple[int, ...] | None
    dtype: torch.dtype
    grows: bool

    def read(self, index: int) -> Tensor:
        """The element at ``index``. Raises IndexError outside of the list."""
        if not 0 <= index < len(self.elements):
            raise IndexError(f"element {index} of a list of {len(self.elements)}")
        found = self.elements[index]
        return torch.zeros(self._element_shape(), dtype=self.dtype) if found is None else found

    def written(self, index: int, value: Tensor) -> "TensorList":
        """With ``value`` at ``index``; longer where that lies behind the end of a growing one."""
        most = _MOST_ELEMENTS if self.grows else len(self.elements)
        if not 0 <= index < most:
            raise IndexError(f"element {index} of a list of {len(self.elements)}")
        elements = list(self.elements) + [None] * (index + 1 - len(self.elements))
        elements[index] = value
        return TensorList(tuple(elements), self.shape, self.dtype, self.grows)

    def _element_shape(self) -> tuple[int, ...]:
        if self.shape is not None:
            return self.shape
        written = next((one for one in self.elements if one is not None), None)
        if written is None:
            raise IndexError("an element is read of a list that nobody wrote to")
        return tuple(written.shape)


def _list(call: Call) -> TensorList:
    found: TensorList = call.inputs["ls"]
    return found


def _make(call: Call) -> Any:
    sizes = call.inputs["elem_shape"]
    known = all(isinstance(size, Tensor | int) for size in sizes)
    return TensorList(
        (None,) * call.integer("init_length", 1),
        tuple(int(size) for size in sizes) if known else None,
        _TYPES[call.text("dtype", "fp32")],
        call.flag("dynamic_length", True),
    )


def _length(call: Call) -> Tensor:
    return torch.tensor(len(_list(call).elements), dtype=torch.int32)


def _read(call: Call) -> Tensor:
    return _list(call).read(call.integer("index"))


def _write(call: Call) -> Any:
    return _list(call).written(call.integer("index"), call.tensor("value"))


def _gather(call: Call) -> Tensor:
    """The elements at ``indices`` (K,), stacked."""
    whole = _list(call)
    return torch.stack([whole.read(index) for index in call.integers("indices")])


def _scatter(call: Call) -> Any:
    """The rows of ``value`` at ``indices``, in that order."""
    whole = _list(call)
    for index, row in zip(call.integers("indices"), call.tensor("value"), strict=True):
        whole = whole.written(index, row)
    return whole


TABLE: dict[str, Handler] = {
    "list_gather": _gather,
    "list_length": _length,
    "list_read": _read,
    "list_scatter": _scatter,
    "list_write": _write,
    "make_list": _make,
}
