"""How ``lpa-export --target coreml`` lowers the model."""

from dataclasses import dataclass, field
from typing import Literal

from lpa_export.formats.schemes import PALETTES
from lpa_export.targets.settings import buckets_field, require_ascending

__all__ = ["CoremlSettings"]


@dataclass(frozen=True)
class CoremlSettings:
    """Everything but the checkpoint.

    ``buckets``: seconds of audio that the fixed-shape encoders take, ascending. ``layout``:
    ``split`` is a front end of any length and an encoder per bucket, ``whole`` one program per
    bucket. ``quantize``: int8 per channel, or palettes per group of channels. ``taps``: "outputs"
    adds a program like the shortest bucket's that puts out every tap and the edges of its windows,
    so that an app can compare and show them on the device; the others stay as fast as they are.
    """

    deployment_target: Literal["iOS17", "iOS18"] = "iOS18"
    precision: Literal["fp16", "fp32"] = "fp16"
    quantize: str = field(default="none", metadata={"choices": ("none", "int8", *PALETTES)})
    buckets: tuple[float, ...] = buckets_field()
    layout: Literal["split", "whole"] = "split"
    taps: Literal["hidden", "outputs"] = field(
        default="hidden",
        metadata={"flag": "'outputs' adds a program that tells an app all taps and windows"},
    )

    def __post_init__(self) -> None:
        require_ascending(self.buckets)
        if self.quantize != "none" and self.precision != "fp16":
            raise ValueError(f"quantize {self.quantize} computes in fp16, found {self.precision}")
        if self.taps not in ("hidden", "outputs"):
            raise ValueError(f"taps are hidden or outputs, found {self.taps}")
        if self.taps == "outputs" and self.layout != "split":
            raise ValueError(f"taps are outputs in layout split only, found {self.layout}")

    @property
    def scheme(self) -> str:
        """The scheme asked for."""
        return self.precision if self.quantize == "none" else self.quantize
