"""Every layout by its name."""

from __future__ import annotations

import difflib

from lexiseg.datasets.layouts.busi import BUSI
from lexiseg.datasets.layouts.cc359 import CC359
from lexiseg.datasets.layouts.cheng import CHENG
from lexiseg.datasets.layouts.cheng_png import CHENG_PNG
from lexiseg.datasets.layouts.covid_qu_ex import COVID_QU_EX
from lexiseg.datasets.layouts.hc18 import HC18
from lexiseg.datasets.layouts.isic import ISIC
from lexiseg.datasets.layouts.kvasir import KVASIR
from lexiseg.datasets.layouts.layout import Layout
from lexiseg.datasets.layouts.montgomery import MONTGOMERY
from lexiseg.datasets.layouts.msd import MSD
from lexiseg.datasets.layouts.nnunet import NNUNET
from lexiseg.datasets.layouts.plain import PLAIN
from lexiseg.datasets.layouts.shenzhen import SHENZHEN
from lexiseg.datasets.layouts.udiat import UDIAT
from lexiseg.errors import UsageError
from lexiseg.scans.names import printable

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        BUSI,
        UDIAT,
        CHENG,
        CHENG_PNG,
        COVID_QU_EX,
        MONTGOMERY,
        SHENZHEN,
        HC18,
        CC359,
        KVASIR,
        ISIC,
        NNUNET,
        MSD,
        PLAIN,
    )
}
"""A new layout is one file with a `Layout`, and one line here."""


def layout_named(name: str) -> Layout:
    """The layout of a name; letter case and "_" for "-" do not count.

    Raises:
        UsageError: there is none.
    """
    plain = name.strip().casefold().replace("_", "-")
    if plain in LAYOUTS:
        return LAYOUTS[plain]
    near = difflib.get_close_matches(plain, LAYOUTS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"no layout {printable(name[:60])!r}; {hint}expected one of {', '.join(LAYOUTS)}")
