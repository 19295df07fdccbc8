"""The process that holds a Core AI program: requests on stdin, answers on stdout.

Off macOS `coreai` runs a program by Apple's own interpreter; a damaged one may take the process
down with it.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np

from lpa_export.runtimes.frames import Answer, Arrays, pipes, serve

__all__ = ["main"]


class _Session:
    """Core AI with at most one program in it."""

    def __init__(self, asset: Any, array: Any) -> None:
        self._asset_type, self._array = asset, array
        self._loop = asyncio.new_event_loop()
        self._opened = AsyncExitStack()
        self._model: Any = None
        self._functions: dict[str, Any] = {}

    def open(self, request: Mapping[str, Any]) -> Answer:
        """Load a program: its functions, and what it says of itself."""
        asset = self._asset_type.load(Path(request["path"]))
        custom = asset.metadata.creator_defined_metadata
        self._model = self._loop.run_until_complete(
            self._opened.enter_async_context(asset.executable())
        )
        words = {str(name): str(value) for name, value in dict(custom).items()}
        return {"functions": list(self._model.function_names), "metadata": words}, []

    def run(self, request: Mapping[str, Any], arrays: Arrays) -> Answer:
        """Call a function: its outputs by the names that are asked for."""
        name = request["function"]
        if name not in self._functions:
            self._functions[name] = self._model.load_function(name)
        given = dict(zip(("waveform", "lengths"), map(self._array, arrays), strict=True))
        found = self._loop.run_until_complete(self._functions[name](given))
        return {}, [np.array(found[output].numpy()) for output in request["outputs"]]

    def answer(self, request: Mapping[str, Any], arrays: Arrays) -> Answer:
        """Do what the request's ``op`` names."""
        table: dict[str, Callable[[], Answer]] = {
            "open": lambda: self.open(request),
            "run": lambda: self.run(request, arrays),
        }
        return table[request["op"]]()


def main() -> None:
    """Serve requests until stdin ends. What the library prints goes to stderr."""
    requests, answers = pipes()
    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray

    serve(requests, answers, _Session(AIModelAsset, NDArray).answer)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
