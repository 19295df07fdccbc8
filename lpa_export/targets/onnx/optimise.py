"""Graph optimisation that stays within standard operators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.errors import LpaError
from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.onnx import open_session
from lpa_export.targets.onnx.lower import anonymise

if TYPE_CHECKING:
    import onnx

__all__ = ["optimise"]


def optimise(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """The graph after ONNX Runtime's basic rewrites, done once here instead of at each load.

    Constant folding, common subexpressions, moved transposes, dropped no-ops: all of them to
    standard operators, whatever the machine. `scratch`: a folder for a file that is gone
    afterwards. Raises LpaError when the runtime refuses the graph.
    """
    import onnx

    path = scratch / "optimised.onnx"
    try:
        open_session(model.SerializeToString(), level="basic", optimised=path)
        return anonymise(onnx.load(path))
    except ArtifactError as error:
        raise LpaError(f"{error}; nothing was written, please report it") from error
    finally:
        path.unlink(missing_ok=True)
