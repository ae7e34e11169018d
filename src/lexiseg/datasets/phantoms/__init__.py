"""Procedural scans with exact masks."""
