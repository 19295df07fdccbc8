"""MediaTek's NPU through NeuroPilot; its converter comes with an SDK of theirs.

Not run by us: the SDK needs MediaTek's licence.
"""

from typing import Any

from lpa_export.targets.executorch.backends import Backend

__all__ = ["BACKEND"]


def _partitioners() -> list[Any]:
    from executorch.backends.mediatek import NeuropilotPartitioner
    from executorch.exir.backend.compile_spec_schema import CompileSpec

    return [NeuropilotPartitioner([CompileSpec("platform-config", b"mt6989")])]


BACKEND = Backend(
    "mediatek",
    _partitioners,
    dynamic=False,
    runs_here=False,
    needs=("mtk_converter", "mtk_neuron"),
    install="install mtk_converter and mtk_neuron from MediaTek's NeuroPilot Express SDK",
)
