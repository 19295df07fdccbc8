"""Core ML programs on any system: read, computed, watched, compared. Figures are emulated."""

from lpa_validate.mil.arithmetic import Arithmetic
from lpa_validate.mil.engine import Evaluator
from lpa_validate.mil.errors import InputError, PackageError, UnsupportedOp
from lpa_validate.mil.package import Package, load_package

__all__ = [
    "Arithmetic",
    "Evaluator",
    "InputError",
    "Package",
    "PackageError",
    "UnsupportedOp",
    "load_package",
]
