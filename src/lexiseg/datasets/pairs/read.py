"""One way in: whatever holds pairs."""

from __future__ import annotations

from pathlib import Path

from lexiseg.datasets.pairs.medpix import is_medpix, medpix_pairs
from lexiseg.datasets.pairs.pairs import PairSet, table_pairs
from lexiseg.datasets.pairs.roco import is_roco, roco_pairs
from lexiseg.errors import BadManifest
from lexiseg.io.names import printable

_TABLES = ("pairs.csv", "manifest.csv")


def read_pairs(path: str | Path, *, min_caption: int = 1) -> PairSet:
    """Pairs of a CSV (`table_pairs`), or of a folder with one, or of MedPix or ROCO as distributed.

    Args:
        path: a CSV with image,text[,group][,split]; a folder that holds pairs.csv or manifest.csv; or the
            folder of MedPix 2.0 (`medpix_pairs`), ROCO or ROCOv2 (`roco_pairs`).
        min_caption: characters that a caption must have; the paper asks for 20.

    Returns:
        Pairs in the data set's order, and what was left out.

    Raises:
        BadManifest: it is none of these, cannot be read, or holds fewer than two pairs that can be used; one
            line that begins with the path.
    """
    path = Path(path)
    if not path.is_dir():
        return table_pairs(path, min_caption=min_caption)
    for name in _TABLES:
        if (path / name).is_file():
            return table_pairs(path / name, min_caption=min_caption)
    for known, read in ((is_medpix, medpix_pairs), (is_roco, roco_pairs)):
        if known(path):
            try:
                return read(path, min_caption=min_caption)
            except BadManifest as error:
                raise BadManifest(f"{printable(str(path))}: {printable(str(error))}") from error
    raise BadManifest(
        f"{printable(str(path))}: no pairs are known there; expected pairs.csv with image,text, "
        "or the folder of MedPix 2.0, ROCO or ROCOv2"
    )
