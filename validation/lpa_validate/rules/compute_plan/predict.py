"""The process of one prediction: ``python -m`` this with model, function, units, inputs, outputs.

Loads a compiled model, predicts once on the arrays of the first .npz, writes the second.
"""

import sys
from typing import Any

import numpy as np

from lpa_export.environment import quiet

__all__ = ["main"]


def main(model: str, function: str, units: str, inputs: str, outputs: str) -> None:
    """Whatever goes wrong raises: the last line of its traceback is the reason that is reported."""
    with quiet():
        import coremltools
        from coremltools.models import CompiledMLModel

    loaded = CompiledMLModel(model, coremltools.ComputeUnit[units], function)
    with np.load(inputs, allow_pickle=False) as given:
        found = loaded.predict(dict(given))
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in found.items()}
    np.savez(outputs, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
