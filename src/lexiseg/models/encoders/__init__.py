"""Vision-language models, one file a family."""
