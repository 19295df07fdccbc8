"""The Learnable Pulse Accumulator (LPA): pulses of three families, soft and hard, as one layer.

The layer follows arXiv:2603.16922, whose equations are not public in a form that we could read.
What stands here is *our formulation*; `lpa_export.layers.lpa` states it in full.
"""

from typing import TYPE_CHECKING, Any

from lpa_export.layers.config import LPAConfig, Pulses

if TYPE_CHECKING:
    from lpa_export.layers.lpa import LPA

__all__ = ["LPA", "LPAConfig", "Pulses"]


def __getattr__(name: str) -> Any:
    """`LPA` when it is asked for: a recipe needs its shape only, and not torch."""
    if name != "LPA":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lpa_export.layers.lpa import LPA

    return LPA
