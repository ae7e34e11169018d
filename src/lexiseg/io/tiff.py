"""TIFF samples as they are stored, for the kinds that Pillow does not read or would narrow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.read import quiet

# What tifffile decodes without further packages: none, deflate (two numbers), PackBits.
_COMPRESSIONS = (1, 8, 32946, 32773)
_WHITE_FIRST, _GREY, _RGB = 0, 1, 2
_ASSOCIATED, _UNASSOCIATED = 1, 2
# NewSubfileType's bits for a smaller copy and for a transparency mask.
PASSED_OVER = 1 | 4


@dataclass(frozen=True, eq=False)
class TiffSamples:
    """One page's samples.

    Attributes:
        values: (H, W) grey, or (H, W, 3) RGB, in the file's type.
        alpha: (H, W) where colour must be multiplied by it; None otherwise.
        white_first: True where low is bright.
        orientation: as EXIF numbers it.
        previews: pages that were passed over.
    """

    values: NDArray[Any]
    alpha: NDArray[Any] | None
    white_first: bool
    orientation: int
    previews: int


def read_samples(path: Path, max_pixels: int) -> TiffSamples:
    """The samples of a TIFF of one page, smaller copies of it passed over.

    Raises:
        UnreadableScan: too large, several pages, truncated, or a kind that is not supported; the reason alone.
    """
    # Here, because most runs read no such TIFF.
    import tifffile

    with quiet("tifffile"), tifffile.TiffFile(path) as file:
        pages: list[Any] = list(file.pages)
        whole = [page for page in pages if not int(page.subfiletype) & PASSED_OVER] or pages[:1]
        if len(whole) > 1:
            raise UnreadableScan(several_frames(len(whole)))
        page = whole[0]
        width, height = int(page.imagewidth), int(page.imagelength)
        if not 0 < width * height <= max_pixels:
            raise UnreadableScan(
                f"its size is {width} x {height} pixels, over the limit of {max_pixels}; resize it, or in Python "
                "read_scan(..., max_pixels=N)"
            )
        _refuse_unsupported(page)
        _refuse_truncated(page, path.stat().st_size)
        values = np.asarray(page.asarray())
        colours = 3 if int(page.photometric) == _RGB else 1
        if page.axes == "SYX":
            values = np.moveaxis(values, 0, 2)
        values = values.reshape(height, width, -1)
        extra = [int(each) for each in page.extrasamples]
        alpha = values[..., colours] if extra[:1] == [_UNASSOCIATED] else None
        tag = page.tags.get(274)
        return TiffSamples(
            values=values[..., :3] if colours == 3 else values[..., 0],
            alpha=alpha,
            white_first=int(page.photometric) == _WHITE_FIRST,
            orientation=int(tag.value) if tag is not None else 1,
            previews=len(pages) - 1,
        )


def page_size(path: Path) -> tuple[int, int]:
    """(height, width) of a TIFF's first page, by its header."""
    import tifffile

    with quiet("tifffile"), tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        return int(page.imagelength), int(page.imagewidth)


def several_frames(count: int) -> str:
    """Why a file of several pages is refused."""
    return f"it holds {count} pages or frames, expected one; save them as single images or as a NIfTI volume"


def _refuse_unsupported(page: Any) -> None:
    kind = page.dtype
    number = kind is not None and np.dtype(kind).kind in "uif"
    colour = int(page.photometric) in (_WHITE_FIRST, _GREY, _RGB)
    shape = page.imagedepth == 1 and page.axes in ("YX", "YXS", "SYX")
    samples = int(page.samplesperpixel) >= (3 if int(page.photometric) == _RGB else 1)
    if number and colour and shape and samples and int(page.compression) in _COMPRESSIONS:
        return
    bits = page.bitspersample
    raise UnreadableScan(
        f"it is a TIFF of a kind that is not supported ({bits} bits a sample as {_name(page.sampleformat)}, "
        f"{_name(page.photometric)}, compression {_name(page.compression)}); "
        "save it uncompressed, as grey or RGB of 8 or 16 bits"
    )


def _name(value: Any) -> str:
    return str(getattr(value, "name", value)).lower()


def _refuse_truncated(page: Any, size: int) -> None:
    spans = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    held = sum(count for _, count in spans)
    needed = page.nbytes if int(page.compression) == 1 else 1
    if held < needed or any(offset + count > size for offset, count in spans):
        raise UnreadableScan(f"it is truncated: its header claims {max(needed, held)} bytes; copy or export it again")
