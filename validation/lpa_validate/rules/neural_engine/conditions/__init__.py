"""What the rules look for: small functions over an operation, or over the whole function.

A condition says in a few words how it is met, "" (or an empty list) when it is not.
"""

from collections.abc import Callable

from lpa_validate.rules.neural_engine.graph import Graph, Op

__all__ = ["FunctionCondition", "OpCondition"]

OpCondition = Callable[[Op, Graph], str]
FunctionCondition = Callable[[Graph], list[str]]
"""One line per input, output or other thing that meets it."""
