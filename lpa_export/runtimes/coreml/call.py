"""One operation of a program with the values of its inputs: what a handler is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Call", "Handler"]

_REQUIRED: Any = object()


@dataclass(frozen=True)
class Call:
    """An operation about to be computed.

    ``inputs`` holds what the program gives (an optional input that it leaves out is missing):
    tensors as torch tensors, texts as str, tuples of values as lists. Scalars are tensors of rank
    0. Shapes are those of this run: a program may be flexible.
    """

    op_type: str
    name: str
    inputs: Mapping[str, Any]
    output_types: tuple[torch.dtype, ...]
    """What the program declares: torch.float16, float32, int32, bool, ... per output."""
    sequential_fp16: bool = False
    """Sums over many elements are to be accumulated one by one in float16."""
    rounds: bool = False
    """Results go to float16 afterwards; so do numbers that the program leaves to their default."""
    tile: int = 0
    """Product sums are rounded to float16 after so many terms; 0: only at the end."""
    tables: bool = False
    """Activations come from coarse tables."""
    opset: int = 15
    """The iOS version whose definition of the operation the program uses: 15, 16, 17 or 18."""

    def has(self, name: str) -> bool:
        """Whether the program gives this input."""
        return name in self.inputs

    def tensor(self, name: str) -> Tensor:
        """A tensor input. Raises KeyError when the program does not give it."""
        value: Tensor = self.inputs[name]
        return value

    def optional(self, name: str) -> Tensor | None:
        """A tensor input, or None when the program leaves it out."""
        return self.inputs.get(name)

    def tensors(self, name: str) -> list[Tensor]:
        """An input that is a tuple of tensors, such as the values of a concat."""
        return list(self.inputs[name])

    def integer(self, name: str, default: int = _REQUIRED) -> int:
        """A scalar integer."""
        return int(self._given(name, default))

    def number(self, name: str, default: float = _REQUIRED) -> float:
        """A scalar number, on the float16 grid where the operation computes on it."""
        value = float(self._given(name, default))
        return float(np.float16(value)) if self.rounds and name not in self.inputs else value

    def flag(self, name: str, default: bool = _REQUIRED) -> bool:
        """A scalar truth value."""
        return bool(self._given(name, default))

    def text(self, name: str, default: str = _REQUIRED) -> str:
        """A text, such as a padding mode."""
        return str(self._given(name, default))

    def integers(self, name: str, default: list[int] = _REQUIRED) -> list[int]:
        """A vector of integers, such as strides or axes (a scalar counts as one)."""
        value = self._given(name, default)
        return [int(item) for item in value.reshape(-1)] if isinstance(value, Tensor) else value

    def _given(self, name: str, default: Any) -> Any:
        if name in self.inputs:
            return self.inputs[name]
        if default is _REQUIRED:
            raise KeyError(name)
        return default


Handler = Callable[[Call], Tensor | tuple[Tensor, ...]]
"""Computes one kind of operation; more than one output is a tuple in the order of the program."""
