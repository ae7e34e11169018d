"""Text to mask, as compositions of the rooms below; presets say which models and settings."""
