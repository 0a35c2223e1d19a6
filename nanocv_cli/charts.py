"""Charts as PNG files, and the names in them: a `$` in a name begins no formula, nothing in it breaks a line."""

import warnings
from pathlib import Path

from matplotlib.figure import Figure

from nanocv_cli.files import atomic_path
from nanocv_cli.untrusted import printable

LONGEST_NAME = 60  # characters


def in_chart(name: str) -> str:
    """A name of others as a text of a chart: matplotlib shows it as it is, whatever it would mean to it."""
    shown = printable(name, LONGEST_NAME).replace("$", r"\$")
    # What begins with an underscore is left out of legends.
    return f" {shown}" if shown.startswith("_") else shown


def save_chart(figure: Figure, target: Path, dpi: int = 120) -> Path:
    """Writes a figure as PNG, atomically.

    Raises:
        StorageError: it cannot be written.
    """
    with atomic_path(target) as temporary, warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box, which says enough.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, format="png", dpi=dpi)
    return target
