"""Backbones, a file each: what makes feature maps of images, for networks of nanocv's own to look at."""
