"""What a Hugging Face hub is asked, and how far its answers are believed: the API, and the place of a file.

`HF_ENDPOINT` names another hub than huggingface.co, `HF_TOKEN` or a login opens what is private. No torch.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from nanocv_cli.errors import ModelError, RequestError, ServingError
from nanocv_cli.untrusted import first_line, is_plain, printable, safe_name

NAME = r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9])?"
REFERENCE = re.compile(rf"hf://({NAME})/({NAME})(?:@([\w.-]+(?:/[\w.-]+)*))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
LARGEST_MODEL = 8 << 30  # bytes
LARGEST_ANSWER = 16 << 20  # bytes that the API may tell of a repository
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


def endpoint() -> str:
    """The hub's address: `HF_ENDPOINT`, else huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def ask_hub(reference: HubReference, suffix: str) -> HubFile:
    """What the hub's API says of the file to fetch.

    Args:
        reference: the repository and its revision.
        suffix: `.onnx` or `.safetensors`.

    Raises:
        RequestError: there is no such repository, revision or file, or it may not be read.
        ModelError: no model has so many bytes.
        ServingError: the hub does not answer, or answers in a way that cannot be.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    url = f"{endpoint()}/api/models/{reference.repository}/revision/{quote(reference.revision, safe='')}?blobs=true"
    answer = bytearray()
    for chunk in stream_file(reference, url):
        answer += chunk
        if len(answer) > LARGEST_ANSWER:
            raise ServingError(f"{endpoint()} answers with more than {LARGEST_ANSWER:,} bytes", "use another hub")
    with answering():
        info = json.loads(answer)
        commit = _matching(COMMIT, info["sha"])
        # A name with a separator is in a folder, or leads out of it.
        named = {entry["rfilename"]: entry for entry in info["siblings"] if isinstance(entry["rfilename"], str)}
        names = sorted(name for name in named if name.endswith(suffix) and safe_name(name) == name)
        if f"model{suffix}" in names:
            names = [f"model{suffix}"]
        if len(names) != 1:
            there = f"{len(names)} files *{suffix}, none of them model{suffix}" if names else f"no file *{suffix}"
            raise RequestError(
                f"{reference} has {there} at its top", f"nanocv reads model{suffix}, or the only file *{suffix}"
            )
        entry = named[names[0]]
        size = entry["size"]
        if type(size) is not int:
            raise ValueError("the size of a file is no number")
        large = entry.get("lfs")
        sha256 = _matching(SHA256, large["sha256"]) if large else ""
        blob = "" if large else _matching(COMMIT, entry["blobId"])
    if not 0 < size <= LARGEST_MODEL:
        raise ModelError(
            f"{reference}: {names[0]} has {size:,} bytes; 1 to {LARGEST_MODEL:,} can be", "use another model"
        )
    return HubFile(names[0], commit, size, sha256, blob)


def _matching(pattern: re.Pattern[str], text: Any) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError("a hash is none")
    return text


def _refusal(reference: HubReference, code: str) -> RequestError:
    """Why the hub does not give something, by the code that it gives with status 401, 403 or 404."""
    if code == "GatedRepo":
        return RequestError(
            f"{endpoint()} lends {reference.repository} only to those who asked for it",
            "ask for it on its page, then: hf auth login",
        )
    if code == "RevisionNotFound":
        return RequestError(
            f"{reference.repository} has no revision {printable(reference.revision, 60)}",
            "name a branch, a tag or a commit, or none for main",
        )
    return RequestError(
        f"{endpoint()} has no model {reference.repository}, or you may not read it",
        "check the name; for a private one: hf auth login",
    )


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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ServingError(
            f"{endpoint()} answered in a way that cannot be: {first_line(error)}", "is HF_ENDPOINT that of a hub?"
        ) from error


def stream_file(reference: HubReference, url: str) -> Iterator[bytes]:
    """The content of a URL of the hub; the token is sent to the hub alone.

    Raises:
        RequestError: the hub does not give it.
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
            if answer.status_code in (401, 403, 404):
                raise _refusal(reference, answer.headers.get("X-Error-Code", ""))
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
