"""Data sets: manifests (CSV lists of scans and what is known of them), published data sets as manifests, and
phantoms (procedural scans).
"""

from lexiseg.datasets.importing import Imported, ImportRequest, import_dataset
from lexiseg.datasets.layouts import LAYOUTS
from lexiseg.datasets.manifest import ManifestRow, read_manifest, write_manifest

__all__ = [
    "LAYOUTS",
    "ImportRequest",
    "Imported",
    "ManifestRow",
    "import_dataset",
    "read_manifest",
    "write_manifest",
]
