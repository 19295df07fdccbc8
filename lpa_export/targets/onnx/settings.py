"""How ``lpa-export --target onnx`` lowers the model."""

from dataclasses import dataclass, field

__all__ = ["OnnxSettings"]


@dataclass(frozen=True)
class OnnxSettings:
    """``quantize`` int8: dynamic, per channel."""

    quantize: str = field(default="none", metadata={"choices": ("none", "int8")})

    @property
    def scheme(self) -> str:
        """The scheme asked for."""
        return "fp32" if self.quantize == "none" else self.quantize
