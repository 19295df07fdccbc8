"""Which operation of a Core ML program parts it from the original, when parity does not hold.

Where the program computed without rounding agrees with the original, 16-bit arithmetic is at
fault: its own run in fp32 is what each operation is held against. Else conversion or weights
are: the checkpoint is converted anew, and both programs run in fp32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lpa_export.runtimes import Array, pad
from lpa_export.runtimes.coreml.runner import CoremlRunner, Step
from lpa_validate.checks.coreml_ops import scopes_of
from lpa_validate.evaluation import Validation

if TYPE_CHECKING:
    from lpa_export.runtimes.coreml import Evaluator, Package
    from lpa_export.runtimes.coreml.divergence import Divergence

__all__ = ["Diverging", "diverging_operation"]


@dataclass(frozen=True)
class Diverging:
    """The operation, in the function ``place``, and against what it was found."""

    place: str
    against: str
    found: "Divergence"

    @property
    def sentence(self) -> str:
        """For the reason of a failed check."""
        case, found = self.found.case, self.found
        module = f" in {case.module}" if case.module else ""
        how = "values not finite" if isnan(case.alone_db) else f"{case.alone_db:.1f} dB"
        if found.accumulated:
            how += f"; none alone is to blame, {found.output} is the first below the gate"
        return f"diverging operation: {case.op_type} {case.output}{module} of {self.place}, {how}"

    def to_json(self) -> dict[str, Any]:
        case, found = self.found.case, self.found
        return {
            "function": self.place,
            "against": self.against,
            "first": {"op": found.op_type, "output": found.output, "module": found.module},
            "first_db": found.db,
            "op": case.op_type,
            "output": case.output,
            "module": case.module,
            "alone_db": case.alone_db,
            "accumulated": found.accumulated,
        }

    def save(self, folder: Path) -> Path:
        """Write the operation with its inputs, ``<output>.npz``. Raises OSError."""
        from lpa_export.runtimes.coreml.divergence import save_case

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.found.case.output}.npz"
        save_case(self.found.case, path)
        return path


def diverging_operation(
    validation: Validation, waveform: Array, expected: Array, gate_db: float
) -> Diverging | None:
    """What brings logits below the gate on one waveform; ``expected`` are those of the original.

    None for other targets, when nothing falls below the gate, and when the program itself is at
    fault but the checkpoint is not at hand.
    """
    from lpa_export.runtimes.coreml import Arithmetic
    from lpa_export.runtimes.coreml.divergence import agreement_db

    runner = validation.runner
    if not isinstance(runner, CoremlRunner):
        return None
    exact = runner.computing(Arithmetic.FP32)
    sound = agreement_db(expected, exact.run(*pad([waveform]))[0]) >= gate_db
    found = _arithmetic(validation, runner, exact, waveform, gate_db) if sound else None
    return found or _program(validation, exact, waveform, gate_db)


def _arithmetic(
    validation: Validation,
    runner: CoremlRunner,
    exact: CoremlRunner,
    waveform: Array,
    gate_db: float,
) -> Diverging | None:
    """Each operation in the bundle's arithmetic against itself without rounding."""
    for step, inputs in runner.given(waveform):
        pair = exact.evaluator(step), runner.evaluator(step)
        found = _parted(validation, step, pair, inputs, gate_db)
        if found is not None:
            return Diverging(step.place, "the same program in fp32", found)
    return None


def _program(
    validation: Validation, exact: CoremlRunner, waveform: Array, gate_db: float
) -> Diverging | None:
    """Each operation against that of the checkpoint converted anew, both without rounding."""
    from lpa_export.runtimes.coreml import Evaluator

    for step, inputs in exact.given(waveform):
        again = _converted_again(validation, step)
        if again is None:
            return None
        pair = Evaluator(again, arithmetic=exact.arithmetic), exact.evaluator(step)
        found = _parted(validation, step, pair, inputs, gate_db)
        if found is not None:
            return Diverging(step.place, "the checkpoint converted anew", found)
    return None


def _parted(
    validation: Validation,
    step: Step,
    pair: "tuple[Evaluator, Evaluator]",
    inputs: Mapping[str, Array],
    gate_db: float,
) -> "Divergence | None":
    from lpa_export.runtimes.coreml.divergence import first_divergence

    scopes = scopes_of(validation).get(step.place)
    return first_divergence(*pair, inputs, gate_db=gate_db, scopes=scopes)


def _converted_again(validation: Validation, step: Step) -> "Package | None":
    """The function's program from the checkpoint, uncompressed; None without a checkpoint."""
    folder = getattr(validation.reference, "folder", None)
    if folder is None:
        return None
    from lpa_export.environment import quiet
    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.hosts import parts_of
    from lpa_export.runtimes.coreml import load_package
    from lpa_export.targets.coreml import programs

    manifest = validation.bundle.manifest
    runtime: Any = manifest.runtime
    parts = parts_of(load_checkpoint(folder, language=manifest.checkpoint.language))
    options: Any = {
        "deployment_target": runtime["deployment_target"],
        "half": manifest.scheme.compute != "fp32",
    }
    with quiet(), TemporaryDirectory() as scratch:
        if step.frames is None:
            front_end = programs.FrontEnd(parts)
            shortest = parts.front_end.receptive_field
            program = programs.front_end_program(front_end, shortest, step.max_samples, **options)
        else:
            whole = runtime["frontend"] is None
            make = programs.whole_program if whole else programs.encoder_program
            bucket = next(b for b in manifest.buckets or () if b.frames == step.frames)
            program = make(parts, bucket, **options)
        path = Path(scratch) / "again.mlpackage"
        program.model.save(str(path))
        again = load_package(path)
        # Its weights are read when the function is built; the folder goes.
        again.function()
    return again
