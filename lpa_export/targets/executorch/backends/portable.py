"""No delegate at all: the reference kernels, which run wherever a C++ compiler goes."""

from lpa_export.targets.executorch.backends import Backend

__all__ = ["BACKEND"]

BACKEND = Backend("portable", list, dynamic=True, runs_here=True)
