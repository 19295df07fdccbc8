"""What keeps a Core ML program on the Neural Engine: predictions from the program, never runs.

    function of a program -> Graph -> rules -> Examination -> placement file

The rules and their sources stand in ``rules.json``; figures from here are labelled *predicted*.
"""

from lpa_validate.rules.neural_engine.examine import Examination, examine
from lpa_validate.rules.neural_engine.graph import Graph, read_graph
from lpa_validate.rules.neural_engine.placement import (
    Comparison,
    compare_placement,
    write_placement,
)

__all__ = [
    "Comparison",
    "Examination",
    "Graph",
    "compare_placement",
    "examine",
    "read_graph",
    "write_placement",
]
