"""What was measured of a target on scans of known outline: how sure its map may be, and how small it is."""

from __future__ import annotations

from typing import NamedTuple

_PART = 4
"""A piece of a small target that counts is at least one such part of it."""


class Calibration(NamedTuple):
    r"""A line through a target's log-odds, and its size.

    .. math:: p = \sigma(\alpha x + \beta)

    with :math:`x` a position's log-odds (Platt, "Probabilistic outputs for support vector machines", 1999).

    Attributes:
        slope: alpha.
        offset: beta.
        smallest: the share of a scan that the target covers where it is small: nineteen of twenty scans that show it
            show more.  1 where nobody measured it.
        map_only: whether its map alone draws it better than a segmenter that is asked by boxes of it, as of what is
            long and thin, or lies in a hollow of something else.
    """

    slope: float = 1.0
    offset: float = 0.0
    smallest: float = 1.0
    map_only: bool = False

    @property
    def calibrated(self) -> bool:
        """Whether log-odds were held against true masks."""
        return (self.slope, self.offset) != (1.0, 0.0)

    def min_area(self, share: float) -> float:
        """The share of a scan below which a piece is dropped: the one asked for, or less where the target is small.

        Example:
            >>> Calibration(smallest=0.001).min_area(0.002), Calibration(smallest=0.1).min_area(0.002)
            (0.00025, 0.002)
        """
        return min(share, self.smallest / _PART)

    def top_fraction(self, share: float) -> float:
        """The share of positions that tell whether the target is there: no more than half of a small one covers."""
        return min(share, self.smallest / 2)


AS_IT_IS = Calibration()
"""Of a target that nobody measured."""
