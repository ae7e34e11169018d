"""Every region that a segmenter can outline, and which of them a phrase retrieves."""
