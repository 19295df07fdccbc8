"""Where two computations of a program part: the first value, and the operation to blame.

An error at one operation may be brought in by all those before it. So each operation is also
computed alone, from the reference's own inputs: what diverges then diverges by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lpa_export.measures.arrays import psnr
from lpa_export.runtimes.coreml.arithmetic import Arithmetic, round_to_half
from lpa_export.runtimes.coreml.engine import Evaluator
from lpa_export.runtimes.coreml.errors import InputError
from lpa_export.runtimes.coreml.execution import Executed, compute
from lpa_export.runtimes.coreml.plan import declared, is_constant

__all__ = [
    "Case",
    "Divergence",
    "StageDivergence",
    "agreement_db",
    "first_divergence",
    "first_stage_divergence",
    "save_case",
]

Scopes = Mapping[str, str]
"""Output name to path of the torch module it came from (scopes.json of a bundle)."""


@dataclass(frozen=True)
class Case:
    """One operation computed alone from the reference's inputs, ready to be replayed.

    ``alone_db`` is its PSNR against ``expected``; inputs that are no arrays are left out.
    """

    op_type: str
    name: str
    output: str
    module: str | None
    alone_db: float
    inputs: Mapping[str, npt.NDArray[Any]]
    expected: npt.NDArray[Any]
    found: npt.NDArray[Any]


@dataclass(frozen=True)
class Divergence:
    """The first value under the gate, and what brought it there.

    ``output`` is that value, of the operation number ``place`` (from 0, constants not counted),
    ``db`` its PSNR with everything before it accumulated. ``case`` is the operation up to there
    that loses most when computed alone; ``accumulated`` says that even it stays above the gate,
    so that no single operation is to blame.
    """

    place: int
    op_type: str
    output: str
    module: str | None
    db: float
    gate_db: float
    case: Case

    @property
    def accumulated(self) -> bool:
        """Whether every operation alone stays above the gate."""
        return self.case.alone_db >= self.gate_db


@dataclass(frozen=True)
class StageDivergence:
    """The first of the given values that a program misses.

    ``last_good`` is the one before it (None at the start); ``between`` are the operations after
    that one up to ``output``, as (operation type, output, module).
    """

    output: str
    db: float
    last_good: str | None
    between: tuple[tuple[str, str, str | None], ...]


def agreement_db(expected: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    """PSNR in dB; infinities and NaN must be the same on both sides, or it is NaN."""
    if expected.shape != found.shape:
        return float("nan")
    finite = np.isfinite(expected) & np.isfinite(found)
    if not finite.all():
        if not np.array_equal(expected[~finite], found[~finite], equal_nan=True):
            return float("nan")
        expected, found = expected[finite], found[finite]
    return float(psnr(expected, found)) if expected.size else float("inf")


def first_divergence(
    reference: Evaluator,
    candidate: Evaluator,
    inputs: Mapping[str, npt.NDArray[Any]],
    *,
    gate_db: float,
    scopes: Scopes | None = None,
) -> Divergence | None:
    """Run one function twice, step by step, until a value falls under the gate.

    The evaluators are of the same function, commonly in FP32 and FP16 arithmetic, or of one whose
    weights differ. Memory stays that of two runs. Returns None when every value stays above the
    gate. Raises InputError when the two do not run the same operations.
    """
    pairs = zip_longest(reference.trace(inputs), candidate.trace(inputs))
    blamed: Case | None = None
    for place, (wanted, given) in enumerate(pairs):
        if wanted is None or given is None or wanted.step.output != given.step.output:
            raise InputError(f"the two runs take different ways at operation {place}")
        step = wanted.step
        case = _alone(wanted, given, candidate, (scopes or {}).get(step.output))
        if blamed is None or _order(case.alone_db) < _order(blamed.alone_db):
            blamed = case
        db = min(_each_db(wanted.outputs, given.outputs), key=_order)
        if not db >= gate_db:
            return Divergence(place, step.op_type, step.output, case.module, db, gate_db, blamed)
    return None


def first_stage_divergence(
    evaluator: Evaluator,
    inputs: Mapping[str, npt.NDArray[Any]],
    expected: Mapping[str, npt.NDArray[Any]],
    *,
    gate_db: float,
    scopes: Scopes | None = None,
) -> StageDivergence | None:
    """Hold named values of a program against those of another model, in program order.

    ``expected``: value name to array in the program's own layout. Returns None when all stay
    above the gate.
    """
    found = evaluator.run(inputs, taps=tuple(expected))
    places = {v.name: place for place, step in enumerate(evaluator.steps) for v in step.outputs}
    last_good = None
    for name in sorted(expected, key=lambda name: places.get(name, -1)):
        db = agreement_db(expected[name], found[name])
        if not db >= gate_db:
            first = places.get(last_good, -1) + 1 if last_good else 0
            steps = evaluator.steps[first : places.get(name, -1) + 1]
            between = tuple(
                (step.op_type, step.output, (scopes or {}).get(step.output)) for step in steps
            )
            return StageDivergence(name, db, last_good, between)
        last_good = name
    return None


def save_case(case: Case, path: Path) -> None:
    """Write a case as .npz: ``input.<name>``, ``expected``, ``found``."""
    inputs: dict[str, Any] = {f"input.{name}": value for name, value in case.inputs.items()}
    np.savez(path, allow_pickle=False, expected=case.expected, found=case.found, **inputs)


def _alone(wanted: Executed, given: Executed, candidate: Evaluator, module: str | None) -> Case:
    """The candidate's way of computing one operation, from the reference's inputs.

    Its constants are its own: a damaged weight is what it is to be blamed for.
    """
    step = given.step
    inputs = {
        name: given.inputs[name]
        if _stated(step.arguments[name])
        else _as_declared(value, step.arguments[name], candidate.arithmetic)
        for name, value in wanted.inputs.items()
    }
    _, outputs = compute(step, inputs, candidate.arithmetic, candidate.function, keep=True)
    each = _each_db(wanted.outputs, outputs)
    worst = min(range(len(each)), key=lambda place: _order(each[place]))
    arrays = {
        f"{name}.{place}" if isinstance(value, list) else name: item.numpy()
        for name, value in inputs.items()
        for place, item in enumerate(value if isinstance(value, list) else [value])
        if isinstance(item, Tensor)
    }
    return Case(
        step.op_type,
        step.name,
        str(step.outputs[worst].name),
        module,
        each[worst],
        arrays,
        wanted.outputs[worst].numpy(),
        outputs[worst].numpy(),
    )


def _stated(variable: Any) -> bool:
    """Whether a program states this input, alone or as one of several."""
    parts = variable if isinstance(variable, tuple) else (variable,)
    return all(map(is_constant, parts))


def _as_declared(value: Any, variable: Any, arithmetic: Arithmetic) -> Any:
    """A reference value as the candidate would have held it."""
    if isinstance(value, list):
        parts = zip(value, variable, strict=True)
        return [_as_declared(item, part, arithmetic) for item, part in parts]
    half = isinstance(value, Tensor) and value.is_floating_point()
    if arithmetic.rounds and half and declared(variable) is torch.float16:
        return round_to_half(value)
    return value


def _each_db(expected: tuple[Any, ...], found: tuple[Any, ...]) -> list[float]:
    pairs = zip(expected, found, strict=True)
    return [
        agreement_db(wanted.numpy(), given.numpy()) if isinstance(wanted, Tensor) else float("inf")
        for wanted, given in pairs
    ]


def _order(db: float) -> float:
    """NaN counts as the worst there is."""
    return float("-inf") if np.isnan(db) else db
