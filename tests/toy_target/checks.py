"""A check of the toy target's own: are its weights numbers?"""

import numpy as np
from lpa_validate.evaluation import Validation
from lpa_validate.report import Check, Figure, judged

from lpa_export.errors import LpaError
from lpa_export.runtimes import ArtifactError

from .runner import ARTIFACT


def check_weights(validation: Validation) -> list[Check]:
    """Arrays with NaN or infinities, and how many numbers there are in all."""
    try:
        with np.load(validation.bundle.file(ARTIFACT), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name != "about"}
    except (OSError, ValueError, LpaError) as error:
        raise ArtifactError(f"{ARTIFACT} cannot be read ({error})") from error
    broken = [name for name, values in arrays.items() if not np.isfinite(values).all()]
    figures = [
        Figure("numbers", sum(values.size for values in arrays.values())),
        Figure("arrays with NaN or infinities", len(broken), gate=0, comparison="=="),
    ]
    return [judged("ops", figures, reason=", ".join(broken), details={"broken": broken})]
