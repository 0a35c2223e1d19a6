"""The flowers set: four species, drawn by the project itself, with class, box and mask labels."""

from nanocv_cli.data.flowers.picture import SPECIES, FlowerPicture, VisibleFlower, draw_picture
from nanocv_cli.data.flowers.writer import draw_set, write_archive

__all__ = ["SPECIES", "FlowerPicture", "VisibleFlower", "draw_picture", "draw_set", "write_archive"]
