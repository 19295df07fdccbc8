"""The process that holds an MLX program: requests on stdin, answers on stdout.

A damaged program can take its process down with it, and must not take ours: MLX reads it without
checking what it reads.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lpa_export.runtimes.frames import Answer, Arrays, pipes, serve

__all__ = ["main"]


class _Session:
    """MLX with at most one program in it."""

    def __init__(self, mlx: Any) -> None:
        self._mlx = mlx
        self._function: Any = None

    def about(self) -> Answer:
        """The version of MLX, and whether it has a GPU here."""
        gpu = self._mlx.is_available(self._mlx.gpu)
        return {"version": self._mlx.__version__, "gpu": bool(gpu)}, []

    def open(self, request: Mapping[str, Any]) -> Answer:
        """Load a program."""
        self._function = self._mlx.compile(self._mlx.import_function(request["path"]))
        return {}, []

    def run(self, request: Mapping[str, Any], arrays: Arrays) -> Answer:
        """Run the function of these shapes: logits, or all taps."""
        mlx = self._mlx
        waveform, lengths = (mlx.array(array) for array in arrays)
        named = {"taps": mlx.array(1)} if request["taps"] else {}
        found = self._function(waveform, lengths, **named)
        return {}, [np.array(output.astype(mlx.float32)) for output in found]

    def answer(self, request: Mapping[str, Any], arrays: Arrays) -> Answer:
        """Do what the request's ``op`` names."""
        table: dict[str, Callable[[], Answer]] = {
            "about": self.about,
            "open": lambda: self.open(request),
            "run": lambda: self.run(request, arrays),
        }
        return table[request["op"]]()


def main() -> None:
    """Serve requests until stdin ends. What the library prints goes to stderr."""
    requests, answers = pipes()
    import mlx.core

    serve(requests, answers, _Session(mlx.core).answer)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
