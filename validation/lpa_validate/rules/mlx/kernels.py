"""Primitives that a GPU backend of MLX throws at, read off its source; nothing is run on a GPU."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

__all__ = ["BACKENDS", "source", "without_kernel"]

BACKENDS = ("metal", "cuda")


def without_kernel(backend: str, primitives: Mapping[str, int]) -> dict[str, int]:
    """Those of the primitives (name to how often) that the backend has no kernel for."""
    absent = frozenset(_rules()[backend]["primitives"])
    return {name: count for name, count in primitives.items() if name in absent}


def source(backend: str) -> str:
    """Where that stands."""
    return f"{_rules()['source']}, {_rules()[backend]['file']}"


@cache
def _rules() -> dict[str, dict[str, list[str]]]:
    rules: dict[str, dict[str, list[str]]] = json.loads(
        Path(__file__).with_name("no_kernel.json").read_text("utf-8")
    )
    return rules
