"""Data sets: manifests (CSV lists of scans and what is known of them) and phantoms (procedural scans)."""

from lexiseg.datasets.manifest import ManifestRow, read_manifest, write_manifest

__all__ = ["ManifestRow", "read_manifest", "write_manifest"]
