"""Graph optimisation that stays within standard operators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.targets.onnx.lower import anonymise
from lpa_export.targets.onnx.session import open_session

if TYPE_CHECKING:
    import onnx

__all__ = ["optimise"]


def optimise(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """The graph after ONNX Runtime's basic rewrites, done once here instead of at each load.

    Constant folding, common subexpressions, moved transposes, dropped no-ops. `scratch`: a
    folder for a file that is gone afterwards.
    """
    import onnx

    path = scratch / "optimised.onnx"
    try:
        open_session(model, optimised=path)
        return anonymise(onnx.load(path))
    finally:
        path.unlink(missing_ok=True)
