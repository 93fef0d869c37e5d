"""How images, masks and lists are written in files."""
