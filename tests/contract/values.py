"""What a user, a script or somebody who means harm may give for an argument."""

import os
from pathlib import Path

import numpy as np

ANYWHERE = {
    "empty": "",
    "space": " ",
    "nan": "NaN",
    "infinity": "inf",
    "minus infinity": "-inf",
    "negative": "-1",
    "zero": "0",
    "huge": "1" + "0" * 30,
    "beyond a float": "1e400",
    "unicode": "ümläut-花",
    "emoji": "🌷",
    "right to left": "\u202egnp.\u2066",
    "no UTF-8": "\udcff\udcfe",
    "upwards": "../../x",
    "absolute": "/dev/null/nanocv/x",  # nobody can make it, not even who may write everywhere
    "controls": "a\x1b]0;title\x07\r\n\tb\x9b2J",
    "dash": "-",
    "dashes": "--",
    "brackets": "[*{%s}$(x)",
    "assignment": "a.b=c",
    "100 kB": "x" * 100_000,
    "pipe": "pipe",
    "folder": "folder",
    "missing": "missing/file",
    "endless": "/dev/zero",
    "full": "/dev/full",
    "random bytes": "random",
    "link to itself": "link",
}
# By suffix: the parameters that name such files. They are given the same kinds of file under the name they expect.
NAMED = {
    ".onnx": {"ref", "refs", "out"},
    ".safetensors": {"ref", "resume"},
    ".yaml": {"data", "model", "recipe", "serve", "gpu", "files", "name"},
    ".png": {"out", "figure", "images", "folder"},
    ".json": {"save_baseline", "compare"},
}
KINDS = ("pipe", "folder", "random", "link")


def write_hostile_files(folder: Path) -> None:
    """A pipe that nobody writes to, a folder, random bytes and a link to itself, each under every suffix."""
    content = np.random.default_rng(0).bytes(3000)
    for suffix in ("", *NAMED):
        os.mkfifo(folder / f"pipe{suffix}")
        (folder / f"folder{suffix}").mkdir()
        (folder / f"folder{suffix}" / "file").write_text("mine")
        (folder / f"random{suffix}").write_bytes(content)
        (folder / f"link{suffix}").symlink_to(f"link{suffix}")


def values_for(parameter: str) -> dict[str, str]:
    """Every hostile value of a parameter, by what it is."""
    suffixes = [suffix for suffix, names in NAMED.items() if parameter in names]
    return ANYWHERE | {f"{kind}{suffix}": f"{kind}{suffix}" for suffix in suffixes for kind in KINDS}
