"""Scores of one mask, one set of boxes or one saliency map."""
