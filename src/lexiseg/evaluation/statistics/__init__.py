"""What a set's cases say together: means with intervals that respect patients, and systems in pairs."""

from lexiseg.evaluation.statistics.bootstrap import Bootstrap, Interval
from lexiseg.evaluation.statistics.paired import Comparison, compare_pairs, holm, rank_biserial
from lexiseg.evaluation.statistics.summary import Summary, summarise

__all__ = [
    "Bootstrap",
    "Comparison",
    "Interval",
    "Summary",
    "compare_pairs",
    "holm",
    "rank_biserial",
    "summarise",
]
