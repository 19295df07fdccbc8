"""The bundled program: golden inputs and outputs in one file with the program they belong to.

ExecuTorch's runtime runs and compares its test cases itself, here as on a phone.
"""

from pathlib import Path

import numpy as np

from lpa_export.formats.golden import read_golden
from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.executorch.flatbuffer import Buffer
from lpa_export.runtimes.executorch.opened import worker_of
from lpa_export.runtimes.executorch.section import file_of, runtime_of
from lpa_validate.evaluation import Validation
from lpa_validate.report import Check, Figure, judged, not_run

__all__ = ["check_replay"]

_IDENTIFIER = b"BP08"
_MAX_RMS = 10.0
"""The largest single difference allowed, in units of the RMS that the PSNR gate allows."""


def check_replay(validation: Validation) -> list[Check]:
    """Test cases that the runtime finds equal; not run where the bundle has no such file.

    Raises ArtifactError for a damaged file.
    """
    runtime = runtime_of(validation.bundle)
    if runtime.bundled is None:
        return [not_run("replay", "the bundle holds no bundled program")]
    path = file_of(validation.bundle, runtime.bundled)
    suites, same = _contents(path, file_of(validation.bundle, runtime.program))
    gate = validation.gates.psnr_db or validation.gates.psnr_flag_db
    if gate is None:
        return [not_run("replay", "the scheme has no PSNR gate to compare by")]
    tolerance = _tolerance(validation, gate)
    problems: list[str] = []
    worker = worker_of(validation.runner)
    for method, cases in suites.items():
        answer, _ = worker.ask(
            "replay", path=str(path), method=method, cases=cases, rtol=0.0, atol=tolerance
        )
        found = answer["cases"]
        problems += [f"{method}, case {i}: {said}" for i, said in enumerate(found) if said]
    figures = [
        Figure("program is the one shipped", int(same), gate=1, comparison="=="),
        Figure("test cases", sum(suites.values()), gate=1, comparison=">="),
        Figure(
            "test cases that differ",
            len(problems),
            gate=0,
            comparison="==",
            flag=validation.gates.psnr_db is None,
        ),
        Figure("largest difference allowed", tolerance),
    ]
    reason = "; ".join(problems)
    return [judged("replay", figures, reason=reason, details={"problems": problems})]


def _contents(path: Path, program: Path) -> tuple[dict[str, int], bool]:
    """Test cases per method, and whether the program in the file is the shipped one."""
    data = path.read_bytes()
    if data[4:8] != _IDENTIFIER:
        raise ArtifactError(f"{path.name} is no bundled program of schema {_IDENTIFIER.decode()}")
    root = Buffer(data).root
    suites = {suite.text(0): len(suite.tables(1)) for suite in root.tables(1)}
    return suites, root.raw(2) == program.read_bytes()


def _tolerance(validation: Validation, gate_db: float) -> float:
    """The absolute tolerance that goes with a PSNR gate, for the golden logits' peak."""
    logits = [clip.taps["logits"] for clip in read_golden(validation.bundle)]
    peak = max(float(np.abs(values).max()) for values in logits)
    return float(_MAX_RMS * peak * 10 ** (-gate_db / 20))
