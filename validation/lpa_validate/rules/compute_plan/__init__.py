"""Where Core ML itself would run each operation, and whether it does: macOS only.

    package -> compiled -> MLComputePlan -> Plan -> beside the prediction of the rules
                        -> predictions, each in a process of its own -> Trial

Only ``adapter`` and ``predict`` speak to coremltools.
"""

from lpa_validate.rules.compute_plan.grade import Grading, grade
from lpa_validate.rules.compute_plan.plan import Plan, PlannedOp
from lpa_validate.rules.compute_plan.trial import Trial, try_prediction

__all__ = ["Grading", "Plan", "PlannedOp", "Trial", "grade", "try_prediction"]
