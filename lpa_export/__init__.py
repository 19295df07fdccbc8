"""Takes trained Learnable Pulse Accumulator speech models to the devices people hold.

The method is public as arXiv:2603.16922; its equations and code are not, so the formulation in
``lpa_export.layers`` is this project's own. Importing this package imports nothing heavy: torch,
onnx and transformers are loaded by the modules that use them.

    import lpa_export
    result = lpa_export.export(target="onnx", checkpoint="path/or/hub-id")

``register_target`` adds a target of one's own, see ``lpa_export/targets/README.md``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lpa_export.environment import keep_private

if TYPE_CHECKING:
    from lpa_export.commands.bench import bench
    from lpa_export.commands.enhance import enhance
    from lpa_export.commands.export import export
    from lpa_export.commands.transcribe import transcribe
    from lpa_export.targets import register_target

keep_private()

__version__ = "0.1.0"

__all__ = ["__version__", "bench", "enhance", "export", "register_target", "transcribe"]

_PLACES = {
    "bench": "lpa_export.commands.bench",
    "enhance": "lpa_export.commands.enhance",
    "export": "lpa_export.commands.export",
    "register_target": "lpa_export.targets",
    "transcribe": "lpa_export.commands.transcribe",
}


def __getattr__(name: str) -> Any:
    """The public functions, imported when they are asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
