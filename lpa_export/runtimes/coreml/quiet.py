"""coremltools speaks to the log on import and while it works; a user must not see it."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

__all__ = ["quiet_coremltools"]


@contextlib.contextmanager
def quiet_coremltools() -> Iterator[None]:
    """Hold back log lines below ERROR and warnings while coremltools is imported or loads."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(max(before, logging.WARNING))
        try:
            yield
        finally:
            logging.disable(before)
