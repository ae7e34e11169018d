"""Scans in and masks out: files of any supported format become `Scan` values with pixels in [0, 1], upright
and with their spacing, and masks go back to files on exactly the grid of the scan they came from. A new file
format is one more `Reader`. Nothing here knows a model.
"""

from lexiseg.scans.dicom_display import window
from lexiseg.scans.find import find_scans
from lexiseg.scans.formats import SCAN_SUFFIXES
from lexiseg.scans.masks import write_map, write_mask
from lexiseg.scans.names import printable, safe_id, unique_ids
from lexiseg.scans.nifti_grid import NiftiGrid, nifti_grid
from lexiseg.scans.overlays import PALETTE, overlay, saliency_overlay, to_display
from lexiseg.scans.read import MAX_PIXELS, MAX_VOXELS, READERS, read_scan
from lexiseg.scans.read_mask import read_mask
from lexiseg.scans.reader import Reader, ReadOptions, VolumeAxis
from lexiseg.scans.scan import BoolArray, FloatArray, Mask, Prompts, Saliency, Scan
from lexiseg.scans.slices import iterate_slices, stack_slices
from lexiseg.scans.stored import Stored, read_stored

__all__ = [
    "MAX_PIXELS",
    "MAX_VOXELS",
    "PALETTE",
    "READERS",
    "SCAN_SUFFIXES",
    "BoolArray",
    "FloatArray",
    "Mask",
    "NiftiGrid",
    "Prompts",
    "ReadOptions",
    "Reader",
    "Saliency",
    "Scan",
    "Stored",
    "VolumeAxis",
    "find_scans",
    "iterate_slices",
    "nifti_grid",
    "overlay",
    "printable",
    "read_mask",
    "read_scan",
    "read_stored",
    "safe_id",
    "saliency_overlay",
    "stack_slices",
    "to_display",
    "unique_ids",
    "window",
    "write_map",
    "write_mask",
]
