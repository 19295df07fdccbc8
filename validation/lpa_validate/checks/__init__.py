"""The checks, in the order they are run: a table, each in a file of its own.

A check takes a ``Validation`` and gives one or more ``Check``. It raises ArtifactError where
the artifact breaks and LpaError where the user's data is at fault.
"""

__all__ = ["CHECKS", "NEEDS_SPEECH", "OPENS_ITSELF"]

CHECKS: dict[str, str] = {
    "integrity": "lpa_validate.checks.integrity:check_integrity",
    "ops": "",  # empty: each target that has one names its own in ``lpa_validate.targets``
    "parity": "lpa_validate.checks.parity:check_parity",
    "wer": "lpa_validate.checks.wer:check_wer",
    "replay": "",
    "compute-plan": "",
    "precision": "",
    "range": "",
    "padding": "lpa_validate.checks.padding:check_padding",
    "determinism": "lpa_validate.checks.determinism:check_determinism",
}

NEEDS_SPEECH = frozenset({"parity", "wer", "precision", "range", "padding", "determinism"})

OPENS_ITSELF = frozenset({"integrity", "ops", "compute-plan"})
"""Checks that have something to say about an artifact that does not open, too."""
