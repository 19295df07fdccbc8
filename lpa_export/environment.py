"""What this process asks of the libraries that it loads: to send nothing, and to be quiet.

The one place for such switches. Only the standard library is imported here.
"""

import logging
import os
import warnings

__all__ = ["keep_private", "quiet_libraries"]

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


def quiet_libraries() -> None:
    """Keep the log lines and warnings of torch, transformers and onnx out of the user's sight.

    Call before they are imported. Errors still show.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
