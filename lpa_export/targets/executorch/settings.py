"""How ``lpa-export --target executorch`` lowers the model."""

from dataclasses import dataclass, field
from typing import Literal

from lpa_export.targets.settings import buckets_field, require_ascending

__all__ = ["ExecutorchSettings"]

_BACKEND = {
    "pattern": "[a-z][a-z0-9_]{0,31}",
    "variant": True,
    "flag": "xnnpack (default), coreml, portable, ...",
}


@dataclass(frozen=True)
class ExecutorchSettings:
    """Everything but the checkpoint.

    ``lowering``: how LPA layers are written, ``auto`` is what was measured best for the backend.
    ``buckets``: seconds of audio, ascending, for backends that take fixed shapes only; the longest
    bounds a program of any length, whose memory is laid out for it.
    ``quantize``: weights and activations in int8.
    """

    backend: str = field(default="xnnpack", metadata=_BACKEND)
    quantize: str = field(default="none", metadata={"choices": ("none", "int8")})
    lowering: Literal["auto", "prefix_sum", "local_dense_mask"] = "auto"
    buckets: tuple[float, ...] = buckets_field()

    def __post_init__(self) -> None:
        require_ascending(self.buckets)

    @property
    def scheme(self) -> str:
        """The scheme asked for."""
        return "fp32" if self.quantize == "none" else self.quantize
