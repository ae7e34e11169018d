"""Scans to files: masks, the table, the record, resuming."""
