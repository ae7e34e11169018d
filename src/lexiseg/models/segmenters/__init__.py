"""Promptable segmenters, one file a family."""
