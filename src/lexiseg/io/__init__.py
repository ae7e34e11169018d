"""Files to scans and masks to files, exactly on the grid of the source.  Nothing here knows a model."""
