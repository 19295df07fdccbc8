"""How ``lpa-export --target onnx`` lowers the model."""

from dataclasses import dataclass, field

__all__ = ["MAX_FILE_BYTES", "OnnxSettings"]

MAX_FILE_BYTES = 2**31 - 2**26
"""Bytes of weights that one file holds with the graph around them."""


@dataclass(frozen=True)
class OnnxSettings:
    """``quantize`` int8: dynamic, per channel. ``convolutions``: those of the front end too or not.

    ``front_end``: in pieces of two seconds its memory does not grow with the audio; ``whole`` is
    for execution providers that have no Scan, as those of phones.
    ``attention``: kept layers in standard operators, or ``fused`` to one node of ONNX Runtime's.
    ``max_file_bytes``: weights above so many bytes lie in a file beside the graph.
    """

    quantize: str = field(default="none", metadata={"choices": ("none", "int8")})
    convolutions: str = field(
        default="int8",
        metadata={
            "choices": ("int8", "float"),
            "flag": "with --quantize int8 the front end in 'int8' (default), or 'float'",
        },
    )
    front_end: str = field(
        default="pieces",
        metadata={
            "choices": ("pieces", "whole"),
            "flag": "the front end in 'pieces' (default), or 'whole' for phones' providers",
        },
    )
    attention: str = field(
        default="portable",
        metadata={
            "choices": ("portable", "fused"),
            "flag": "kept attention in standard operators ('portable', the default), or "
            "'fused' to one node of ONNX Runtime",
        },
    )
    max_file_bytes: int = field(default=MAX_FILE_BYTES, metadata={"min": 0, "max": MAX_FILE_BYTES})

    @property
    def scheme(self) -> str:
        """The scheme asked for."""
        return "fp32" if self.quantize == "none" else self.quantize
