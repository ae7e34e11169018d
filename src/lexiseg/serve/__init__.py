"""`lexiseg serve`: one page and one HTTP interface over sessions; it holds no segmentation logic of its own."""
