"""Core ML programs on any system: read, computed, watched, compared. Figures are emulated."""

from lpa_export.runtimes.coreml.arithmetic import Arithmetic
from lpa_export.runtimes.coreml.engine import Evaluator
from lpa_export.runtimes.coreml.errors import InputError, PackageError, UnsupportedOp
from lpa_export.runtimes.coreml.package import Package, load_package

__all__ = [
    "Arithmetic",
    "Evaluator",
    "InputError",
    "Package",
    "PackageError",
    "UnsupportedOp",
    "load_package",
]
