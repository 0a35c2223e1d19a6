"""Annotated copies of images, written below one folder."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.errors import RequestError
from nanocv_cli.files import atomic_path
from nanocv_cli.images.resize import JPEG_SUFFIXES
from nanocv_cli.images.sources import Images, Source
from nanocv_cli.untrusted import safe_name

JPEG_QUALITY = 92


class AnnotatedCopies:
    """Writes annotated images below a folder; never over an input and never over one another.

    Args:
        folder: where they go; made where it is missing, files of the same names from an earlier call are replaced.
        images: the inputs.

    Raises:
        RequestError: the folder holds inputs, or lies within a folder of them.
    """

    def __init__(self, folder: Path, images: Images) -> None:
        target = folder.resolve()
        for root in images.roots:
            if target.is_relative_to(root.resolve()) or (not root.is_dir() and target == root.resolve().parent):
                raise RequestError(
                    f"--out {folder} lies among the images themselves", "choose a folder outside of them"
                )
        self.folder = folder
        self._taken: set[str] = set()
        self._repeats: dict[Path, int] = {}

    def write(self, source: Source, image: NDArray[np.uint8]) -> Path:
        """Writes uint8 [H,W,3] under the source's own relative name: JPEG as JPEG, everything else as PNG.

        Raises:
            StorageError: the folder cannot be written.
        """
        own = source.relative
        jpeg = own.suffix.lower() in JPEG_SUFFIXES
        name = safe_name(own.stem) + (own.suffix if jpeg else ".png")
        target = self.folder / self._free(Path(*map(safe_name, own.parent.parts), name))
        with atomic_path(target) as temporary:
            if jpeg:
                Image.fromarray(image).save(temporary, "JPEG", quality=JPEG_QUALITY)
            else:
                Image.fromarray(image).save(temporary, "PNG")
        return target

    def attach(self, written: Path, name: str, image: NDArray[np.uint8]) -> Path:
        """Writes an image uint8 [H,W] or [H,W,3] as PNG beside an annotated copy: `name.jpg` and `name-mask.png`.

        Raises:
            StorageError: the folder cannot be written.
        """
        relative = written.relative_to(self.folder).with_name(f"{written.stem}-{name}.png")
        target = self.folder / self._free(relative)
        with atomic_path(target) as temporary:
            Image.fromarray(image).save(temporary, "PNG")
        return target

    def _free(self, relative: Path) -> Path:
        """`name.jpg`, else `name-2.jpg` and so on, where another image of this call has it.

        Case does not tell names apart: on some file systems it does not either.
        """
        free = relative
        while _folded(free) in self._taken:
            self._repeats[relative] = self._repeats.get(relative, 1) + 1
            free = relative.with_stem(f"{relative.stem}-{self._repeats[relative]}")
        self._taken.add(_folded(free))
        return free


def _folded(path: Path) -> str:
    return str(path).casefold()
