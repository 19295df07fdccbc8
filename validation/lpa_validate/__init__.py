"""Proof that an exported bundle still transcribes as the model it came from.

    bundle -> open -> run -> compare -> report

    import lpa_validate
    report = lpa_validate.validate(target="onnx", bundle="build/an4-tiny/onnx")
    report.verdict, report.check("parity").figures

``register_check`` adds a check of one's own, see ``lpa_validate/checks/README.md``. Nothing heavy
is imported here: ``lpa-validate --help`` has to answer at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lpa_export.environment import keep_private

keep_private()

if TYPE_CHECKING:
    from lpa_validate.checks import register_check
    from lpa_validate.run import validate

__all__ = ["register_check", "validate"]

_PLACES = {"register_check": "lpa_validate.checks", "validate": "lpa_validate.run"}


def __getattr__(name: str) -> Any:
    """The public functions, imported when they are asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
