"""What this process asks of the libraries that it loads: to send nothing, and to be quiet.

The one place for such switches. Only the standard library is imported here.
"""

import contextlib
import gc
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator

__all__ = [
    "child_environment",
    "collect_rarely",
    "installed_versions",
    "keep_private",
    "quiet",
    "quiet_libraries",
]

# ONNX Runtime 1.29 and later keeps a device id and a database under the user's cache and sends
# from it on every system; the hub's client adds to its requests what it is used by.
_PRIVATE = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

# Read by the libraries when they are imported; a user who set one keeps the own value.
_QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
_NOISY_LOGGERS = (
    "coremltools",
    "executorch",
    "huggingface_hub",
    "onnx_ir",
    "onnxruntime",
    "onnxscript",
    "torch",
    "torch.utils._pytree",
    "torchao",
    "transformers",
)


def keep_private() -> None:
    """No library of this process, or of one that it starts, may phone home.

    Done when the package is imported: the libraries look when they are.
    """
    os.environ.update(_PRIVATE)


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment for a Python of its own: the same modules, wherever found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **changes}


def collect_rarely() -> None:
    """Let Python look for garbage in cycles every 50,000 new objects instead of every 700.

    Converters make millions of small objects that stay. An export of the shipped model takes an
    eighth less time (ONNX) and a tenth (ExecuTorch), and up to a tenth more memory.
    """
    gc.set_threshold(50_000, 10, 10)


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """By name; a package that is not installed is left out."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def quiet_libraries() -> None:
    """Keep the log lines and warnings of torch, transformers and onnx out of the user's sight.

    Call before they are imported. Errors still show.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop the logs, warnings, bars and prints of the block; what goes wrong is an exception.

    For libraries that talk however they are asked not to: converters, and executorch and
    coremltools from their import on. Some give the root logger a handler: it is taken away again.
    """
    root = logging.getLogger()
    handlers, disabled = list(root.handlers), logging.root.manager.disable
    bars = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    logging.disable(max(disabled, logging.ERROR))
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        for handler in root.handlers[:]:
            if handler not in handlers:
                root.removeHandler(handler)
        if bars is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = bars
