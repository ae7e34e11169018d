"""Every layout by its name."""

from __future__ import annotations

import difflib

from lexiseg.datasets.layouts.brain_mri import CC359, CHENG, CHENG_PNG
from lexiseg.datasets.layouts.colour import ISIC, KVASIR
from lexiseg.datasets.layouts.generic import MSD, NNUNET, PLAIN
from lexiseg.datasets.layouts.layout import Layout
from lexiseg.datasets.layouts.ultrasound import BUSI, HC18, UDIAT
from lexiseg.datasets.layouts.xray import COVID_QU_EX, MONTGOMERY, SHENZHEN
from lexiseg.errors import UsageError
from lexiseg.io.names import printable

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
