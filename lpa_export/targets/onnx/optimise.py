"""Graph optimisation that stays within standard operators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.errors import LpaError
from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.onnx import open_session
from lpa_export.targets.onnx.external import save
from lpa_export.targets.onnx.lower import anonymise

if TYPE_CHECKING:
    import onnx

__all__ = ["optimise"]

_EXTERNAL = "session.optimized_model_external_initializers"

# Nothing is run: weights in the order that products are fastest in would be a second copy.
_UNPACKED = {"session.disable_prepacking": "1"}


def optimise(model: onnx.ModelProto, scratch: Path, *, external: bool = False) -> onnx.ModelProto:
    """The graph after ONNX Runtime's basic rewrites, done once here instead of at each load.

    Constant folding, common subexpressions, moved transposes, dropped no-ops: all of them to
    standard operators, whatever the machine. `scratch`: a folder for files that are gone
    afterwards; `external`: weights are too large for one file. Raises LpaError when the runtime
    refuses the graph.
    """
    import onnx

    traced, path = scratch / "traced.onnx", scratch / "optimised.onnx"
    beside = f"{path.name}.data"
    beside_graph = {f"{_EXTERNAL}_file_name": beside, f"{_EXTERNAL}_min_size_in_bytes": "1024"}
    files = [traced, path, scratch / f"{traced.name}.data", scratch / beside]
    try:
        if external:
            save(model, traced, external=True)
            content = traced.read_bytes()
            config = beside_graph | _UNPACKED
            open_session(content, level="basic", config=config, optimised=path, folder=scratch)
        else:
            content = model.SerializeToString()
            open_session(content, level="basic", config=_UNPACKED, optimised=path)
        return anonymise(onnx.load(path))
    except ArtifactError as error:
        raise LpaError(f"{error}; nothing was written, please report it") from error
    finally:
        for file in files:
            file.unlink(missing_ok=True)
