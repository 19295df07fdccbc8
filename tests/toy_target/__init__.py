"""A whole target outside the package: weights in an .npz file, and numpy that runs them.

`lpa_export/targets/README.md` walks through these files. An installed package names the two rows
below in its entry points; nothing in lpa_export or lpa_validate knows of them.
"""

from lpa_validate.checks import CheckSpec

from lpa_export.formats.schemes import scheme_named
from lpa_export.targets import TargetSpec

__all__ = ["CHECK", "TARGET"]

TARGET = TargetSpec(
    name="npz",
    exporter="tests.toy_target.exporter:NpzTarget",
    runner="tests.toy_target.runner:NpzRunner",
    settings="tests.toy_target.settings:NpzSettings",
    usage="tests.toy_target.usage:usage",
    schemes=(scheme_named("fp32"),),
)

CHECK = CheckSpec("ops", "tests.toy_target.checks:check_weights", ("npz",), opens_itself=True)
