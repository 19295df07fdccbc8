"""The checks, in the order they are run: rows of a table, each in a file of its own.

A check takes a ``Validation`` and gives one or more ``Check``. It raises ArtifactError where
the artifact breaks and LpaError where the user's data is at fault.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError
from lpa_export.formats.task import RECOGNITION, SEPARATION

if TYPE_CHECKING:
    from lpa_validate.report import Check

__all__ = [
    "ENTRY_POINTS",
    "CheckSpec",
    "check_that_gives",
    "checks_of",
    "known_checks",
    "register_check",
]

ENTRY_POINTS = "lpa_validate.checks"
"""Group of entry points: each gives a `CheckSpec` of an installed package."""


@dataclass(frozen=True)
class CheckSpec:
    """One check of bundles of a ``task``, for some targets or (``targets`` None) all of them.

    ``function`` is "module:name", imported when the check is run. ``needs_speech``: it transcribes
    the data. ``opens_itself``: it has something to say about an artifact that does not open.
    ``besides``: names of other verdicts that it gives, by which it may be asked for too.
    """

    name: str
    function: str
    targets: tuple[str, ...] | None = None
    needs_speech: bool = False
    opens_itself: bool = False
    task: str = RECOGNITION
    besides: tuple[str, ...] = ()

    def load(self) -> "Callable[[Any], list[Check]]":
        """The function itself, of a `Validation` or of a `SeparationValidation`."""
        module, _, name = self.function.partition(":")
        found: Callable[[Any], list[Check]] = getattr(import_module(module), name)
        return found


_HERE = "lpa_validate.checks"
_APART = "lpa_validate.separation"
_COREML, _EXECUTORCH, _MLX, _ONNX = ("coreml",), ("executorch",), ("mlx",), ("onnx",)

_CHECKS = [
    CheckSpec("integrity", f"{_HERE}.integrity:check_integrity", opens_itself=True),
    CheckSpec("ops", f"{_HERE}.onnx_ops:check_ops", _ONNX, opens_itself=True),
    CheckSpec("ops", f"{_HERE}.coreml_ops:check_ops", _COREML, opens_itself=True),
    CheckSpec("ops", f"{_HERE}.executorch_ops:check_ops", _EXECUTORCH, opens_itself=True),
    CheckSpec("ops", f"{_HERE}.mlx_ops:check_ops", _MLX, opens_itself=True),
    CheckSpec("parity", f"{_HERE}.parity:check_parity", needs_speech=True),
    CheckSpec("wer", f"{_HERE}.wer:check_wer", needs_speech=True, besides=("wer-difference",)),
    CheckSpec("silence", f"{_HERE}.silence:check_silence", needs_speech=True),
    CheckSpec("replay", f"{_HERE}.replay:check_replay", _EXECUTORCH),
    CheckSpec(
        "compute-plan", f"{_HERE}.coreml_plan:check_compute_plan", _COREML, opens_itself=True
    ),
    CheckSpec("precision", f"{_HERE}.precision:check_precision", _COREML, needs_speech=True),
    CheckSpec("range", f"{_HERE}.ranges:check_range", _COREML, needs_speech=True),
    CheckSpec("padding", f"{_HERE}.padding:check_padding", needs_speech=True),
    CheckSpec("determinism", f"{_HERE}.determinism:check_determinism", needs_speech=True),
    *(
        replace(spec, task=SEPARATION)
        for spec in (
            CheckSpec("integrity", f"{_APART}.integrity:check_integrity", opens_itself=True),
            CheckSpec("ops", f"{_HERE}.onnx_ops:check_ops", _ONNX, opens_itself=True),
            CheckSpec("ops", f"{_APART}.coreml_ops:check_ops", _COREML, opens_itself=True),
            CheckSpec("ops", f"{_HERE}.executorch_ops:check_ops", _EXECUTORCH, opens_itself=True),
            CheckSpec("ops", f"{_HERE}.mlx_ops:check_ops", _MLX, opens_itself=True),
            CheckSpec("parity", f"{_APART}.parity:check_parity", needs_speech=True),
            CheckSpec("separation", f"{_APART}.quality:check_separation", needs_speech=True),
            CheckSpec("silence", f"{_APART}.silence:check_silence"),
            CheckSpec("padding", f"{_APART}.padding:check_padding", needs_speech=True),
            CheckSpec("determinism", f"{_HERE}.determinism:check_determinism", needs_speech=True),
        )
    ),
]


_installed: list[str] = []
"""Groups of entry points that were looked at, so that they are looked for once."""


def register_check(spec: CheckSpec) -> None:
    """Add a check from outside this package; it is run behind those that are there.

    Raises LpaError where a target has a check of that name already.
    """
    for other in _CHECKS:
        both = other.targets is None or spec.targets is None
        if (other.name, other.task) == (spec.name, spec.task) and (
            both or set(other.targets or ()) & set(spec.targets or ())
        ):
            raise LpaError(f"check {spec.name!r} is there already; give yours another name")
    _CHECKS.append(spec)


def checks_of(target: str, task: str = RECOGNITION) -> dict[str, CheckSpec]:
    """The checks of a target by name, in the order they are run."""
    return {
        spec.name: spec
        for spec in _rows()
        if spec.task == task and (spec.targets is None or target in spec.targets)
    }


def known_checks() -> tuple[str, ...]:
    """The names of all checks, whatever their target."""
    return tuple(dict.fromkeys(spec.name for spec in _rows()))


def check_that_gives(name: str) -> str:
    """The check by which the verdict `name` comes: mostly `name` itself."""
    return next((spec.name for spec in _rows() if name in spec.besides), name)


def _rows() -> Sequence[CheckSpec]:
    if not _installed:
        _installed.append(ENTRY_POINTS)
        for point in entry_points(group=ENTRY_POINTS):
            register_check(point.load())
    return _CHECKS
