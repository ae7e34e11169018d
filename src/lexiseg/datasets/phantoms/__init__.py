"""Procedural scans that look like their modality, with exact masks of every named structure.

A phantom is a pure function of its arguments: anatomy is drawn first in smooth shapes, then imaged by a small
model of the scanner's physics. They serve the demo, the documentation and the tests, and are extra training
data; they are not evidence of how a method does on patients. A further modality is one file that makes a
`Modality`, and one entry in the registry.
"""

from lexiseg.datasets.phantoms.phantom import Phantom
from lexiseg.datasets.phantoms.registry import MODALITIES, generate, options
from lexiseg.datasets.phantoms.writing import write_set

__all__ = ["MODALITIES", "Phantom", "generate", "options", "write_set"]
