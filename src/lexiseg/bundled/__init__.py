"""The small weights that ship."""
