"""The flowers set: four species, drawn by the project itself, with class, box and mask labels."""

from nanocv_cli.data.flowers.drawing import SPECIES, FlowerImage, VisibleFlower, draw_image
from nanocv_cli.data.flowers.writer import draw_set, write_archive

__all__ = ["SPECIES", "FlowerImage", "VisibleFlower", "draw_image", "draw_set", "write_archive"]
