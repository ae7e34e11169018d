"""What the builders share: random fields and outlines, scanners' physics, lettering and caption words."""
