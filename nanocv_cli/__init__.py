"""nanocv: small computer-vision models from images to a measured, served model."""

__version__ = "0.1.0"
