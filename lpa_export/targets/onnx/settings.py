"""How ``lpa-export --target onnx`` lowers the model."""

from dataclasses import dataclass, field

from lpa_export.targets.onnx.external import MAX_FILE_BYTES

__all__ = ["OnnxSettings"]


@dataclass(frozen=True)
class OnnxSettings:
    """``quantize`` int8: dynamic, per channel.

    ``front_end``: in pieces of two seconds its memory does not grow with the audio; ``whole`` is
    for execution providers that have no Scan, as those of phones.
    ``max_file_bytes``: weights above so many bytes lie in a file beside the graph.
    """

    quantize: str = field(default="none", metadata={"choices": ("none", "int8")})
    front_end: str = field(
        default="pieces",
        metadata={
            "choices": ("pieces", "whole"),
            "flag": "onnx: the front end in 'pieces' (default), or 'whole' for phones' providers",
        },
    )
    max_file_bytes: int = field(default=MAX_FILE_BYTES, metadata={"min": 0, "max": MAX_FILE_BYTES})

    @property
    def scheme(self) -> str:
        """The scheme asked for."""
        return "fp32" if self.quantize == "none" else self.quantize
