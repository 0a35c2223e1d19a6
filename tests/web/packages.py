"""Packages as npm packs them, with what nanocv uses of the runtime's."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from nanocv_cli.web import runtime

MODULE, WASM = b"export const InferenceSession = {};\n", b"\0asm\1\0\0\0"


def write_package(path: Path, module: bytes = MODULE) -> Path:
    """A package with the members that are used and others around them."""
    contents = {"package/package.json": b"{}", "package/README.md": b"x" * 5000}
    contents |= dict(zip(map(str, runtime.USED), (module, WASM), strict=True))
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def publish(patch: pytest.MonkeyPatch, package: Path) -> None:
    """Makes a package the one that was published."""
    patch.setattr(runtime, "INTEGRITY", base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode())
