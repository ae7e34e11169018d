"""Where is the phrase?  (encoder, pixels, phrases) to one `Saliency` for each phrase, on the scan's grid."""
