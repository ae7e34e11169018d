"""DICOM in and out: files, series and studies to scans; segmentations and structure sets from masks."""
