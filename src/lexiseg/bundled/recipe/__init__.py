"""How the bundled weights were made: data, augmentation, losses and loops, one config (`recipe.yaml`)."""
