"""Where is the phrase?  (encoder, scan, phrases) to one `Saliency` for each phrase, on the scan's own grid.

`SaliencyMethod` does what all methods share: the scan is framed into the encoder's square so that the whole
of it is seen, every phrase is encoded once, views are blended and undone exactly, and the evidence of
presence is gathered.  A method is a small file with one hook, and a line in `METHODS`.
"""

from lexiseg.saliency.base import Progress, Raw, SaliencyMethod
from lexiseg.saliency.framing import Frame, FramingMode, Rectangle, blend, frame_scan
from lexiseg.saliency.presence import PresenceSettings, presence_score, top_fraction_mean
from lexiseg.saliency.registry import METHODS, explain, make_method, method_class
from lexiseg.saliency.selftest import selftest

__all__ = [
    "METHODS",
    "Frame",
    "FramingMode",
    "PresenceSettings",
    "Progress",
    "Raw",
    "Rectangle",
    "SaliencyMethod",
    "blend",
    "explain",
    "frame_scan",
    "make_method",
    "method_class",
    "presence_score",
    "selftest",
    "top_fraction_mean",
]
