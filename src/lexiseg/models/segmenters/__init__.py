"""Promptable segmenters: a family is one module, and ``FAMILY_*`` beside it are its parts.

Which families there are, and in which order they are asked, stands in `lexiseg.models.families`.
"""
