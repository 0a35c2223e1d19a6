"""Where a command finds the project's data and keeps what it can make again."""

import os
from pathlib import Path


def cache_folder(root: Path) -> Path:
    """The folder of decoded images: `NANOCV_CACHE`, else `.cache/nanocv` of the project."""
    return Path(os.environ.get("NANOCV_CACHE") or root / ".cache" / "nanocv")
