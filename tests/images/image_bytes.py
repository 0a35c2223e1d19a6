"""Images of one colour, as files."""

from pathlib import Path

from PIL import Image


def write_image(path: Path, colour: str = "red", size: tuple[int, int] = (20, 16)) -> Path:
    """Writes an image of one colour, (width, height) in pixels; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path
