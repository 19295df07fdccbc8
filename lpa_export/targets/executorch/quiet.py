"""Silence around executorch, torchao and the exporters of torch, which talk a lot."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop logs, warnings and prints of the block; what goes wrong arrives as an exception.

    Importing some of these packages gives the root logger a handler: it is taken away again.
    """
    root = logging.getLogger()
    handlers, disabled = list(root.handlers), logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(disabled)
            for handler in root.handlers[:]:
                if handler not in handlers:
                    root.removeHandler(handler)
