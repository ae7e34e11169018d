"""The small models that ship with the package: `clip/` (an open_clip folder), `sam/` (a SAM's, as
transformers writes it) and `unet/` (a student's folder, which students begin from), with the recipe that
made them (`train`, `recipe/`).

Nothing here is imported to use them: `lexiseg.models` and `lexiseg.learning.weak` load the folders as any
other.
"""
