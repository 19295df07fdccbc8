"""How ``lpa-export --target npz`` writes the model."""

from dataclasses import dataclass, field

__all__ = ["NpzSettings"]


@dataclass(frozen=True)
class NpzSettings:
    """``packing``: whether the arrays are deflated."""

    packing: str = field(
        default="none",
        metadata={"choices": ("none", "deflate"), "flag": "none (default) or deflate"},
    )
