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
    "fraction": "0.5",
    "huge": "1" + "0" * 30,
    "beyond a float": "1e400",
    "5,000 digits": "9" * 5000,
    "unicode": "ümläut-花",
    "emoji": "🌷",
    "right to left": "\u202egnp.\u2066",
    "no UTF-8": "\udcff\udcfe",
    "upwards": "../../x",
    "absolute": "/nonexistent-nanocv/x",
    "controls": "a\x1b]0;title\x07\r\n\tb\x9b2J",
    "dash": "-",
    "dashes": "--",
    "comma": ",",
    "brackets": "[*{%s}$(x)",
    "assignment": "a.b=c",
    "100 kB": "x" * 100_000,
    "pipe": "pipe",
    "folder": "folder",
    "missing": "missing/file",
    "endless": "/dev/zero",
    "full": "/dev/full",
    "random bytes": "random",
}
SUFFIXES = (".onnx", ".safetensors", ".yaml", ".png", ".json")
# Of parameters that name files and folders: the same kinds with the names that these are known by.
NAMED = {f"{kind} {suffix}": f"{kind}{suffix}" for kind in ("pipe", "folder", "random", "link") for suffix in SUFFIXES}
PATHS = {"ref", "refs", "data", "model", "recipe", "serve", "gpu", "resume", "out", "figure", "figures",
         "save_baseline", "compare", "files", "folder", "name", "pictures", "repository"}  # fmt: skip


def write_hostile_files(folder: Path) -> None:
    """A pipe that nobody writes to, a folder, random bytes and a link to itself, each under every suffix."""
    content = np.random.default_rng(0).bytes(3000)
    for suffix in ("", *SUFFIXES):
        os.mkfifo(folder / f"pipe{suffix}")
        (folder / f"folder{suffix}").mkdir()
        (folder / f"folder{suffix}" / "file").write_text("mine")
        (folder / f"random{suffix}").write_bytes(content)
        (folder / f"link{suffix}").symlink_to(f"link{suffix}")


def values_for(parameter: str) -> dict[str, str]:
    """Every hostile value of a parameter, by what it is."""
    return ANYWHERE | (NAMED if parameter in PATHS else {})
