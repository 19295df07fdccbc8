"""Backends of ExecuTorch: one small module each, with a `BACKEND`, and a row in the table below."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from lpa_export.environment import quiet
from lpa_export.errors import LpaError

__all__ = ["Backend", "known_backends", "load_backend"]

_PLACE = "lpa_export.targets.executorch.backends"
_BACKENDS = ("xnnpack", "portable", "coreml", "vulkan", "mps", "qualcomm", "mediatek", "mlx")


@dataclass(frozen=True)
class Backend:
    """What a program can be handed to.

    `partitioners` imports the backend's packages and gives its partitioners. `dynamic`: it takes
    any length; otherwise each bucket is a method of its own. `runs_here`: the Python runtime of
    executorch can run it; `emulated`: an evaluator of ours can. `needs`: modules that must be
    there, and `environment` a variable that must be set; `install`: how to get them.
    """

    name: str
    partitioners: Callable[[], list[Any]]
    dynamic: bool
    runs_here: bool
    emulated: bool = False
    environment: str = ""
    needs: tuple[str, ...] = ()
    install: str = ""

    @property
    def unrunnable(self) -> str:
        """Why nothing here can run its programs, empty where something can."""
        if self.runs_here or self.emulated:
            return ""
        return f"programs of backend {self.name} run on its devices only"

    def require(self) -> None:
        """Raise LpaError naming the first thing that is missing and how to install it."""
        if self.environment and not os.environ.get(self.environment):
            raise LpaError(
                f"backend {self.name}: the variable {self.environment} is not set; {self.install}"
            )
        for module in self.needs:
            if not _is_there(module):
                raise LpaError(
                    f"backend {self.name}: the Python package {module!r} is missing; {self.install}"
                )


def known_backends() -> tuple[str, ...]:
    """Names for the recipe and `--backend`."""
    return _BACKENDS


def load_backend(name: str) -> Backend:
    """The backend of that name. Raises LpaError naming the known ones."""
    if name not in _BACKENDS:
        raise LpaError(
            f"unknown ExecuTorch backend {name!r}; known backends: {', '.join(_BACKENDS)}"
        )
    backend: Backend = import_module(f"{_PLACE}.{name}").BACKEND
    return backend


def _is_there(module: str) -> bool:
    """Whether a module can be found; its packages may run code that fails."""
    with quiet():
        try:
            return find_spec(module) is not None
        except ImportError:
            return False
