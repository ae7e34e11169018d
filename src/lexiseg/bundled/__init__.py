"""The small models that ship with the package: `clip/` (an open_clip folder), `sam/` (a transformers SamModel
folder), and the recipe that made them (`train`, `recipe/`).

Nothing here is imported to use them: `lexiseg.models` loads the two folders as it loads any other.
"""
