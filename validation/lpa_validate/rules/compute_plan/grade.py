"""The rules against the plan: what was predicted beside what Core ML intends."""

from dataclasses import dataclass
from typing import Any

from lpa_validate.rules.compute_plan.plan import Plan
from lpa_validate.rules.neural_engine.examine import Examination

__all__ = ["Grading", "RuleGrade", "grade"]

_NAMES = 20


@dataclass(frozen=True)
class RuleGrade:
    """Of the operations a fatal rule holds for, how many the plan places off the Neural Engine."""

    ops: int
    elsewhere: int


@dataclass(frozen=True)
class Grading:
    """Operations by what the rules predict (stays, fatal) and where the plan places them.

    ``unmatched`` are in the program alone or without a device in the plan; ``surprises`` are the
    first that the rules let stay and the plan does not, as "op output: device".
    """

    stays_on_engine: int
    stays_elsewhere: int
    fatal_on_engine: int
    fatal_elsewhere: int
    unmatched: int
    rules: dict[str, RuleGrade]
    surprises: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "rules": {name: vars(found) for name, found in self.rules.items()},
            "surprises": list(self.surprises),
        }


def grade(examination: Examination, plan: Plan) -> Grading:
    """Operations are matched by the name of their first output."""
    placed = {op.output: op.device for op in plan.ops if op.device != "undetermined"}
    counts = {(stays, on): 0 for stays in (True, False) for on in (True, False)}
    rules: dict[str, RuleGrade] = {}
    surprises: list[str] = []
    unmatched = 0
    for verdict in examination.verdicts:
        device = placed.get(verdict.output)
        if device is None:
            unmatched += 1
            continue
        on_engine = device == "neural engine"
        counts[verdict.on_engine, on_engine] += 1
        if verdict.on_engine and not on_engine:
            surprises.append(f"{verdict.op} {verdict.output}: {device}")
        for name in verdict.rules:
            before = rules.get(name, RuleGrade(0, 0))
            rules[name] = RuleGrade(before.ops + 1, before.elsewhere + (not on_engine))
    return Grading(
        stays_on_engine=counts[True, True],
        stays_elsewhere=counts[True, False],
        fatal_on_engine=counts[False, True],
        fatal_elsewhere=counts[False, False],
        unmatched=unmatched,
        rules=rules,
        surprises=tuple(surprises[:_NAMES]),
    )
