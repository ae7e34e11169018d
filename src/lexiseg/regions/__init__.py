"""A saliency map to a coarse mask, its components, and the boxes and points around them."""
