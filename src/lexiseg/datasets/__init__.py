"""Manifests, published layouts, splits, image-text pairs, exports and phantoms."""
