"""The Learnable Pulse Accumulator (LPA): pulses of three families, soft and hard, as one layer.

The layer follows arXiv:2603.16922, whose equations are not public in a form that we could read.
What stands here is *our formulation*; `lpa_export.layers.lpa` states it in full.
"""

from lpa_export.layers.config import LPAConfig
from lpa_export.layers.lpa import LPA

__all__ = ["LPA", "LPAConfig"]
