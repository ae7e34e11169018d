"""Masks against true ones: metrics, presence, retrieval, statistics and the report."""
