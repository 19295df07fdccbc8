"""How often the rules agree with published placements: the grade that every prediction bears.

    python -m lpa_validate.rules.neural_engine.agreement [--write]

prints the confusion table by rule; ``--write`` keeps it beside the rules, for the reports.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from lpa_validate.rules.neural_engine.cases import APART, Observation, observations, rebuild
from lpa_validate.rules.neural_engine.examine import examine
from lpa_validate.rules.neural_engine.rules import AGREEMENT, all_rules

__all__ = ["Agreement", "Graded", "RuleCount", "graded", "tally"]


@dataclass(frozen=True)
class Graded:
    """An observation beside the rules: ``rules`` are the fatal ones that hold (none: it stays)."""

    observation: Observation
    rules: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        return self.observation.stays == (not self.rules)


@dataclass(frozen=True)
class RuleCount:
    """Observations that a rule holds for: those that did leave, and those that did not."""

    right: int
    false: int


@dataclass(frozen=True)
class Agreement:
    """``agree`` of ``of`` graded observations; the others are false alarms or misses, by id."""

    agree: int
    of: int
    false_alarms: tuple[str, ...]
    misses: tuple[str, ...]
    rules: Mapping[str, RuleCount]

    @property
    def without_evidence(self) -> tuple[str, ...]:
        """Fatal rules that no published placement bears on."""
        return tuple(name for name, count in self.rules.items() if not count.right + count.false)


def graded(seen: Observation) -> Graded | None:
    """The rules on its program: fatal ones, those that move it and those that make it wrong.

    None for an observation that stands apart.
    """
    program = rebuild(seen)
    if program is None:
        return None
    examined = examine(program.graph)
    moved = {
        name
        for verdict in examined.verdicts
        if not program.judged or program.judged & {verdict.op, verdict.output}
        for name in verdict.rules
    }
    wrong = {
        found.rule.id
        for found in examined.findings
        if found.rule.severity == "fatal" and found.rule.in_place
    }
    return Graded(seen, tuple(sorted(moved | wrong)))


def tally(every: Iterable[Graded]) -> Agreement:
    """The counts, over all and by rule."""
    found = list(every)
    rules = {
        name: RuleCount(
            right=sum(not one.observation.stays for one in found if name in one.rules),
            false=sum(one.observation.stays for one in found if name in one.rules),
        )
        for name, rule in all_rules().items()
        if rule.severity == "fatal" or rule.engines
    }
    return Agreement(
        agree=sum(one.agrees for one in found),
        of=len(found),
        false_alarms=tuple(one.observation.id for one in found if one.rules and not one.agrees),
        misses=tuple(one.observation.id for one in found if not one.rules and not one.agrees),
        rules=rules,
    )


def _table(counted: Agreement) -> str:
    rows = [
        f"agree with {counted.agree} of {counted.of} published placements "
        f"({100 * counted.agree / counted.of:.1f} %): "
        f"{len(counted.false_alarms)} false alarms, {len(counted.misses)} misses; "
        f"{len(APART)} more stand apart",
        f"false alarms: {', '.join(counted.false_alarms) or 'none'}",
        f"misses: {', '.join(counted.misses) or 'none'}",
        f"{'fatal rule':<22}{'left':>6}{'stayed':>8}",
        *(f"{name:<22}{one.right:>6}{one.false:>8}" for name, one in counted.rules.items()),
        f"without published evidence: {', '.join(counted.without_evidence) or 'none'}",
    ]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Grade the rules by published placements.")
    parser.add_argument("--write", action="store_true", help="keep the counts for the reports")
    arguments = parser.parse_args()
    counted = tally(one for seen in observations() if (one := graded(seen)))
    print(_table(counted))
    if arguments.write:
        AGREEMENT.write_text(json.dumps(asdict(counted), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
