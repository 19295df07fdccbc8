"""The log of a long run: a line per case, so that a run that was stopped goes on where it was."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Case", "Log"]

_FINE = ("same", "tie", "fine", "whole")


@dataclass(frozen=True)
class Case:
    """What came of one seed in one ``part`` (a target, a format, a command).

    ``verdict``: wrong is a fault of this package, refused is one line of it, any other is well.
    """

    seed: int
    part: str
    verdict: str
    said: str = ""
    seconds: float = 0.0
    how: str = ""


class Log:
    """The cases of all runs with this file; a last line cut short is dropped."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        self.cases = [Case(**json.loads(line)) for line in lines if line.endswith("}")]
        self._path = path
        path.write_text("".join(map(_line, self.cases)), "utf-8")

    def has(self, seed: int, part: str) -> bool:
        """Whether that seed was tried in that part."""
        return any((case.seed, case.part) == (seed, part) for case in self.cases)

    def add(self, cases: Sequence[Case]) -> None:
        """Put cases at its end."""
        self.cases += cases
        with self._path.open("a", encoding="utf-8") as log:
            log.write("".join(map(_line, cases)))

    def print(self) -> int:
        """Counts and durations per part, what was wrong in full; the exit code of a command."""
        for part in dict.fromkeys(case.part for case in self.cases):
            own = [case for case in self.cases if case.part == part]
            counts = Counter(case.verdict for case in own)
            words = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
            print(f"{part}: {len(own)} in {sum(case.seconds for case in own):.0f} s: {words}")
            for case in own:
                if case.verdict not in (*_FINE, "refused"):
                    print(f"  seed {case.seed}: {case.verdict}: {case.said} [{case.how}]")
        return int(any(case.verdict == "wrong" for case in self.cases))


def _line(case: Case) -> str:
    return json.dumps(asdict(case)) + "\n"
