"""Graph optimisation that stays within standard operators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.errors import LpaError
from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.onnx import every_graph, open_session
from lpa_export.targets.onnx.external import write_external
from lpa_export.targets.onnx.lower import anonymise

if TYPE_CHECKING:
    import onnx

__all__ = ["optimise"]

_CONFIG = {
    # Nothing is run: weights in the order that products are fastest in would be a second copy.
    "session.disable_prepacking": "1",
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
}


def optimise(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """The graph after ONNX Runtime's basic rewrites, done once here instead of at each load.

    Constant folding, common subexpressions, moved transposes, dropped no-ops: all of them to
    standard operators, whatever the machine. Weights leave `model`, come from one file and go to
    another, so that memory holds them once where the caller has no name for `model`. `scratch`: a
    folder for files that are gone afterwards. Raises LpaError when the runtime refuses the graph.
    """
    import onnx

    traced, path = scratch / "traced.onnx", scratch / "optimised.onnx"
    weights = [file.with_name(f"{file.name}.data") for file in (traced, path)]
    beside = {"session.optimized_model_external_initializers_file_name": weights[1].name}
    try:
        write_external(model, traced)
        del model
        content, config = traced.read_bytes(), _CONFIG | beside
        open_session(content, level="basic", config=config, optimised=path, folder=scratch)
        optimised = onnx.load(path)
    except ArtifactError as error:
        raise LpaError(f"{error}; nothing was written, please report it") from error
    finally:
        for file in (traced, path, *weights):
            file.unlink(missing_ok=True)
    for graph in every_graph(optimised.graph):
        for tensor in graph.initializer:
            # Reading it said that the weight is no longer beside the graph, as if it had to be.
            tensor.ClearField("data_location")
    return anonymise(optimised)
