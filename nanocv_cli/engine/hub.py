"""`hf://owner/name[@revision]`: a model of a Hugging Face hub, brought here once and pinned to its content.

Only the one file that is read is fetched, a `.onnx` or `.safetensors` at the repository's top: it is data, no program.
It is held against the commit, size and hash that the hub's API told, and kept under its commit. No torch.
"""

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nanocv_cli.engine.hub_client import COMMIT, SHA256, HubFile, HubReference, ask_hub, endpoint, stream_file
from nanocv_cli.errors import ModelError, ServingError
from nanocv_cli.files import atomic_path, write_json, write_text
from nanocv_cli.output import say
from nanocv_cli.untrusted import open_regular, read_regular, safe_name

LARGEST_RECORD = 64 << 10  # bytes


def fetch_hub_file(ref: str, suffix: str, cache: Path) -> Path:
    """The file of a hub's model with a suffix, from the cache or the hub; a line on stderr says what was fetched.

    Args:
        ref: see `HubReference.parse`. A commit that is in the cache is taken from there, without asking anybody; a
            branch or tag is asked for, and taken from the cache only where the hub cannot be reached.
        suffix: `.onnx` or `.safetensors`.
        cache: folder of what can be fetched again; files lie in `hub/OWNER--NAME/COMMIT/`.

    Raises:
        RequestError: there is no such repository, revision or file, or it may not be read.
        ModelError: what the hub sent is not what it announced, or cannot be.
        ServingError: the hub does not answer, and the cache holds nothing.
        StorageError: the file cannot be written.
    """
    reference = HubReference.parse(ref)
    folder = cache / "hub" / safe_name(reference.repository.replace("/", "--"))
    if COMMIT.fullmatch(reference.revision) and (kept := _kept(folder / reference.revision, suffix)):
        return kept
    known = folder / "refs" / safe_name(reference.revision)
    try:
        file = ask_hub(reference, suffix)
    except ServingError as error:
        commit = _text(known)
        if COMMIT.fullmatch(commit) and (kept := _kept(folder / commit, suffix)):
            say(f"{error.message}; {reference} is taken from the cache as it was at {commit[:12]}")
            return kept
        raise
    target = folder / file.commit / file.name
    if kept := _kept(target.parent, suffix):
        write_text(known, file.commit)
        return kept
    sha256 = _download(reference, file, target)
    origin = {"reference": f"hf://{reference.repository}@{file.commit}", "endpoint": endpoint(), "file": file.name,
              "bytes": file.size, "sha256": sha256}  # fmt: skip
    write_json(_record(target.parent, suffix), origin)
    write_text(known, file.commit)
    say(f"{origin['reference']}: {file.name}, {file.size / 1e6:.1f} MB, sha256 {sha256}")
    return target


def hub_origin(path: Path) -> dict[str, Any] | None:
    """Where a file of `fetch_hub_file` came from: `reference` with its commit, `endpoint`, `sha256`; else None."""
    try:
        origin = json.loads(read_regular(_record(path.parent, path.suffix), LARGEST_RECORD))
        return origin if origin["file"] == path.name and SHA256.fullmatch(origin["sha256"]) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _record(folder: Path, suffix: str) -> Path:
    return folder / f"origin{suffix}.json"


def _kept(folder: Path, suffix: str) -> Path | None:
    """The file of a commit that is in the cache and still is what was fetched."""
    try:
        name = json.loads(read_regular(_record(folder, suffix), LARGEST_RECORD))["file"]
        if not isinstance(name, str) or safe_name(name) != name:
            return None
        path = folder / name
        with open_regular(path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    origin = hub_origin(path)
    return path if origin and origin["sha256"] == sha256 else None


def _text(path: Path) -> str:
    try:
        return read_regular(path, LARGEST_RECORD).decode(errors="replace").strip()
    except OSError:
        return ""


def _download(reference: HubReference, file: HubFile, target: Path) -> str:
    """Writes the file if it is the one that was announced, and returns its sha256."""
    sha256 = hashlib.sha256()
    git = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    url = f"{endpoint()}/{reference.repository}/resolve/{file.commit}/{quote(file.name)}"
    received = 0
    with atomic_path(target) as temporary, temporary.open("wb") as out:
        for chunk in stream_file(reference, url):
            received += len(chunk)
            if received > file.size:
                break
            sha256.update(chunk)
            git.update(chunk)
            out.write(chunk)
        if received != file.size:
            more = "more than" if received > file.size else f"{received:,} of"
            raise ModelError(f"{reference}: {file.name} came as {more} {file.size:,} bytes", "try it again")
        expected, found = (file.sha256, sha256) if file.sha256 else (file.blob, git)
        if found.hexdigest() != expected:
            raise ModelError(
                f"{reference}: {file.name} is not what the hub announced: its hash is {found.hexdigest()[:16]}…, not "
                f"{expected[:16]}…",
                "do not use it; try again later, or ask the repository's owner",
            )
    return sha256.hexdigest()
