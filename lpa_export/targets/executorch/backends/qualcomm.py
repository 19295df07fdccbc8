"""Qualcomm's NPU through QNN; its compiler is an SDK that is installed by hand.

Importing executorch's part of it would download that SDK unasked, so the SDK is asked for first.
Not run by us: the SDK needs Qualcomm's licence.
"""

from typing import Any

from lpa_export.targets.executorch.backends import Backend

__all__ = ["BACKEND"]


def _partitioners() -> list[Any]:
    from executorch.backends.qualcomm.partition.qnn_partitioner import QnnPartitioner
    from executorch.backends.qualcomm.serialization.qc_schema import QcomChipset
    from executorch.backends.qualcomm.utils.utils import (
        generate_htp_compiler_spec,
        generate_qnn_executorch_compiler_spec,
    )

    options = generate_htp_compiler_spec(use_fp16=True)
    return [QnnPartitioner(generate_qnn_executorch_compiler_spec(QcomChipset.SM8650, options))]


BACKEND = Backend(
    "qualcomm",
    _partitioners,
    dynamic=False,
    runs_here=False,
    environment="QNN_SDK_ROOT",
    needs=("cpuinfo", "executorch.backends.qualcomm.partition"),
    install="install Qualcomm's QNN SDK, point QNN_SDK_ROOT to it, and pip install py-cpuinfo",
)
