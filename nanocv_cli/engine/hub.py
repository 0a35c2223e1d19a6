"""`hf://owner/name[@revision]`: a model of a Hugging Face hub, brought here once and pinned to its content.

Only the one file that is read is fetched, a `.onnx` or `.safetensors` at the repository's top: it is data, no program.
Its commit, size and hash are what the hub's API says; what is sent is held against them, and kept under its commit.
`HF_ENDPOINT` names another hub than huggingface.co, `HF_TOKEN` or a login opens what is private. No torch.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from nanocv_cli.errors import ModelError, RequestError, ServingError
from nanocv_cli.files import atomic_path, write_json, write_text
from nanocv_cli.output import say
from nanocv_cli.untrusted import first_line, is_plain, open_regular, printable, read_regular, safe_name

NAME = r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9])?"
REFERENCE = re.compile(rf"hf://({NAME})/({NAME})(?:@([\w.-]+(?:/[\w.-]+)*))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
LARGEST_MODEL = 8 << 30  # bytes
LARGEST_RECORD = 64 << 10  # bytes
MOST_REDIRECTS = 3
SECONDS = 30.0  # that a hub may be silent
CHUNK = 1 << 20  # bytes
# Where huggingface.co, and hubs that mirror it, keep large files.
STORES = ("hf.co", "huggingface.co")


@dataclass(frozen=True)
class HubReference:
    """A repository of models: `owner/name`, at a branch, tag or commit."""

    repository: str
    revision: str

    @classmethod
    def parse(cls, ref: str) -> "HubReference":
        """Reads `hf://owner/name[@revision]`.

        Raises:
            RequestError: it is something else.
        """
        found = REFERENCE.fullmatch(ref)
        if not found or ".." in ref or "--" in found[1] + found[2]:
            raise RequestError(
                f"{printable(ref, 120)} names no model of a hub", "hf://OWNER/NAME or hf://OWNER/NAME@REVISION"
            )
        return cls(f"{found[1]}/{found[2]}", found[3] or "main")

    def __str__(self) -> str:
        return f"hf://{self.repository}@{self.revision}"


@dataclass(frozen=True)
class HubFile:
    """One file of a repository, as the hub's API describes it.

    Attributes:
        name: at the repository's top.
        commit: 40 hex digits.
        size: bytes.
        sha256: of the content; empty for a small file, which has `blob`.
        blob: git's hash of the content.
    """

    name: str
    commit: str
    size: int
    sha256: str
    blob: str


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
        file = _ask(reference, suffix)
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


def endpoint() -> str:
    """The hub's address: `HF_ENDPOINT`, else huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _ask(reference: HubReference, suffix: str) -> HubFile:
    """What the hub's API says of the file to fetch."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    with answering():
        try:
            info = HfApi(endpoint=endpoint()).model_info(
                reference.repository, revision=reference.revision, files_metadata=True, timeout=SECONDS
            )
        except GatedRepoError as error:
            raise RequestError(
                f"{endpoint()} lends {reference.repository} only to those who asked for it",
                "ask for it on its page, then: hf auth login",
            ) from error
        except RepositoryNotFoundError as error:
            raise RequestError(
                f"{endpoint()} has no model {reference.repository}, or you may not read it",
                "check the name; for a private one: hf auth login",
            ) from error
        except RevisionNotFoundError as error:
            raise RequestError(
                f"{reference.repository} has no revision {printable(reference.revision, 60)}",
                "name a branch, a tag or a commit, or none for main",
            ) from error
        commit, siblings = info.sha, info.siblings or []
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
            raise ValueError("it names no commit")
        # A name with a separator is in a folder, or leads out of it.
        named = {entry.rfilename: entry for entry in siblings if isinstance(entry.rfilename, str)}
        names = sorted(name for name in named if name.endswith(suffix) and safe_name(name) == name)
        if f"model{suffix}" in names:
            names = [f"model{suffix}"]
        if len(names) != 1:
            there = f"{len(names)} files *{suffix}, none of them model{suffix}" if names else f"no file *{suffix}"
            raise RequestError(
                f"{reference} has {there} at its top", f"nanocv reads model{suffix}, or the only file *{suffix}"
            )
        entry = named[names[0]]
        size, blob = entry.size, entry.blob_id or ""
        sha256 = entry.lfs.sha256 if entry.lfs else ""
        if type(size) is not int or not (SHA256.fullmatch(sha256) if sha256 else COMMIT.fullmatch(blob)):
            raise ValueError(f"it does not say what {names[0]} holds")
    if not 0 < size <= LARGEST_MODEL:
        raise ModelError(
            f"{reference}: {names[0]} has {size:,} bytes; 1 to {LARGEST_MODEL:,} can be", "use another model"
        )
    return HubFile(names[0], commit, size, sha256, blob)


@contextmanager
def answering() -> Iterator[None]:
    """Tells what goes wrong with a hub inside the block in one line.

    Raises:
        ServingError: it does not answer, refuses, or answers in a way that cannot be.
    """
    import httpx2

    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise ServingError(
            f"{endpoint()} does not answer as a hub: {first_line(error)}",
            "check the network and HF_ENDPOINT",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServingError(
            f"{endpoint()} answered in a way that cannot be: {first_line(error)}", "is HF_ENDPOINT that of a hub?"
        ) from error


def _download(reference: HubReference, file: HubFile, target: Path) -> str:
    """Writes the file if it is the one that was announced, and returns its sha256."""
    sha256 = hashlib.sha256()
    git = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    url = f"{endpoint()}/{reference.repository}/resolve/{file.commit}/{quote(file.name)}"
    received = 0
    with atomic_path(target) as temporary, temporary.open("wb") as out:
        for chunk in _stream(url):
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


def _stream(url: str) -> Iterator[bytes]:
    """The content of a URL of the hub; the token is sent to the hub alone.

    Raises:
        ModelError: it leads to a place that is none of the hub's.
    """
    from huggingface_hub import get_session, get_token

    token = get_token()
    home = urlsplit(endpoint())
    for _ in range(MOST_REDIRECTS + 1):
        place = urlsplit(url)
        is_home = (place.scheme, place.netloc) == (home.scheme, home.netloc)
        headers = {"Accept-Encoding": "identity"}
        if token and is_home:
            headers["Authorization"] = f"Bearer {token}"
        with (
            answering(),
            get_session().stream("GET", url, headers=headers, timeout=SECONDS, follow_redirects=False) as answer,
        ):
            if not answer.is_redirect:
                answer.raise_for_status()
                yield from answer.iter_raw(CHUNK)
                return
            url = urljoin(url, answer.headers["Location"])
        _expect_store(urlsplit(url), home)
    raise ModelError(f"{endpoint()} sends its file from place to place", "try again later")


def _expect_store(place: SplitResult, home: SplitResult) -> None:
    """Makes sure that a redirect stays at the hub, or leads to where its large files are kept."""
    host = place.hostname or ""
    is_store = place.scheme == "https" and any(host == store or host.endswith(f".{store}") for store in STORES)
    if (place.scheme, place.netloc) != (home.scheme, home.netloc) and not is_store:
        shown = printable(place.netloc if is_plain(place.netloc) else "nowhere", 80)
        raise ModelError(
            f"{endpoint()} sends its file from {place.scheme}://{shown}, which is no place of the hub's",
            "check HF_ENDPOINT",
        )
