"""How ``lpa-export --target mlx`` writes the model."""

from dataclasses import dataclass, field
from typing import Literal

from lpa_export.targets.settings import buckets_field, require_ascending

__all__ = ["MlxSettings"]


@dataclass(frozen=True)
class MlxSettings:
    """``buckets``: seconds of audio, ascending, a trace each. ``device``: where the program runs;
    a machine without that device runs it on the CPU. ``sums``: how window sums are made, in blocks
    or by the backend's cumulative sum. ``means``: how the model of any length averages windows, by
    gathers or by a kernel of the GPU, which was never compiled here. ``group_size``: input channels
    that share a scale where weights are quantised.
    """

    buckets: tuple[float, ...] = buckets_field()
    device: str = field(
        default="gpu",
        metadata={
            "choices": ("gpu", "cpu"),
            "flag": "what the program is written for, 'gpu' (default) or 'cpu'",
        },
    )
    sums: Literal["blocks", "cumsum"] = "blocks"
    means: str = field(
        default="gathers",
        metadata={
            "choices": ("gathers", "kernel"),
            "flag": "window means by 'gathers' (default), or a GPU's 'kernel', not tried yet",
        },
    )
    group_size: int = field(default=64, metadata={"choices": (32, 64, 128)})

    def __post_init__(self) -> None:
        require_ascending(self.buckets)

    @property
    def scheme(self) -> str:
        """The scheme asked for."""
        return "fp32"
