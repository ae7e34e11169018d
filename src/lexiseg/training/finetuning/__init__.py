"""An encoder fine-tuned on image-caption pairs."""
