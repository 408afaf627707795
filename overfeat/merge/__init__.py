"""How do many windows' boxes of one class become few?

Four methods behind one contract, `merge_boxes`: the paper's greedy merging, non-maximum
suppression, its soft form, and weighted box fusion. A method is chosen by its configuration.
"""

from overfeat.merge.fusion import BoxFusion
from overfeat.merge.greedy import Average, GreedyMerge, MatchScore, match_scores
from overfeat.merge.groups import MergedBoxes
from overfeat.merge.methods import MERGES, MergeConfig, Method, describe_merge, merge_boxes
from overfeat.merge.soft_suppression import Decay, SoftSuppression
from overfeat.merge.suppression import NonMaxSuppression

__all__ = [
    "MERGES",
    "Average",
    "BoxFusion",
    "Decay",
    "GreedyMerge",
    "MatchScore",
    "MergeConfig",
    "MergedBoxes",
    "Method",
    "NonMaxSuppression",
    "SoftSuppression",
    "describe_merge",
    "match_scores",
    "merge_boxes",
]
