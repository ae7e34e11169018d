"""How published data sets lie on disk, one small file a set: a layout finds the scans in a folder as
unpacked, says which mask, patient and class belong to each, and how a mask is made where the set holds it in
another form. What becomes a manifest of it is `lexiseg.datasets.importing`.
"""

from lexiseg.datasets.layouts.layout import Case, Derived, Found, Layout, Source
from lexiseg.datasets.layouts.registry import LAYOUTS, layout_named

__all__ = ["LAYOUTS", "Case", "Derived", "Found", "Layout", "Source", "layout_named"]
