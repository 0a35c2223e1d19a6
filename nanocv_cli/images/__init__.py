"""What an image file holds, as pixels: decoded, resized, drawn on, written. No torch."""

RESIZE_RULES = ("crop", "stretch")  # how any image becomes the square that a model reads: `resize.py`
