"""What can be done about wrong pseudo-labels, each in a file of its own with its source: weights by
confidence, small-loss selection, co-teaching, correction by an averaged teacher, snapshot ensembles. All are
pure functions of tensors; the loop that uses them is `lexiseg.learning.weak.trainer`.
"""

from lexiseg.learning.weak.robust.co_teaching import exchange
from lexiseg.learning.weak.robust.refresh import corrected, follow
from lexiseg.learning.weak.robust.small_loss import kept_share, smallest
from lexiseg.learning.weak.robust.snapshots import choose_members, cycle_rate, entropy
from lexiseg.learning.weak.robust.weighting import balanced

__all__ = [
    "balanced",
    "choose_members",
    "corrected",
    "cycle_rate",
    "entropy",
    "exchange",
    "follow",
    "kept_share",
    "smallest",
]
