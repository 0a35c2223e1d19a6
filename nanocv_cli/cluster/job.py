"""A job's folder: what is asked, the images it is asked of, and the files of answers that are whole. No Ray.

job.json             what is asked; a call that asks the same goes on with this job
inputs.jsonl         the images, a path or URL a line, listed once
part-00000000.jsonl  the answers to the first images, in their order; whole as soon as it is there
manifest.json        written last: every part with its images, bytes and hash
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as strict_dataclass

from nanocv_cli.cluster.parts import JOB, Asked, Part, WholePart, examine
from nanocv_cli.errors import RequestError
from nanocv_cli.files import atomic_path, expect_folder, make_folder, write_json
from nanocv_cli.foreign import read_json
from nanocv_cli.output import json_line
from nanocv_cli.untrusted import open_regular, printable

INPUTS, MANIFEST = "inputs.jsonl", "manifest.json"
OTHER_OUT = "choose another --out"


@strict_dataclass(frozen=True, config=ConfigDict(strict=True))
class _Recorded:
    """`job.json`.

    Attributes:
        asked: what is asked.
        images: how many were listed.
        inputs_hash: sha256 of `inputs.jsonl`, hex digits.
    """

    asked: Asked
    images: int
    inputs_hash: str


class Job:
    """A job in its folder; `open_job` makes or finds one.

    Attributes:
        folder: where it lies.
        asked: what is asked.
        images: how many were listed.
    """

    def __init__(self, folder: Path, recorded: _Recorded) -> None:
        self.folder, self.asked, self.images = folder, recorded.asked, recorded.images

    def parts(self) -> Iterator[Part]:
        """All parts in order, whole or not; the listing is read as they are taken."""
        with open_regular(self.folder / INPUTS) as file:
            number = 0
            while lines := list(islice(file, self.asked.part_images)):
                yield Part(f"part-{number:08d}.jsonl", [json.loads(line) for line in lines])
                number += 1

    def whole(self, part: Part) -> WholePart | None:
        """What the file of a part holds; None where there is none, or one that was cut short."""
        return examine(self.folder / part.name, len(part.places))

    def begin(self) -> None:
        """Takes the manifest of an earlier call away: a part that it names is not there any more.

        Raises:
            OSError: it cannot be removed.
        """
        (self.folder / MANIFEST).unlink(missing_ok=True)

    def finish(self, parts: list[WholePart]) -> None:
        """Writes the manifest, which says that all is whole.

        Raises:
            StorageError: it cannot be written.
        """
        rows = [{key: value for key, value in asdict(part).items() if key != "problems"} for part in parts]
        skipped = sum(part.skipped for part in parts)
        write_json(self.folder / MANIFEST, {"whole": True, "images": self.images, "skipped": skipped, "parts": rows})


@contextmanager
def open_job(folder: Path, asked: Asked, places: Iterable[str]) -> Iterator[Job]:
    """The job of a folder, for as long as the block lasts, during which no other process has it.

    Args:
        folder: made where it is missing.
        asked: what this call asks.
        places: of the images; taken only where they are not listed there already.

    Raises:
        RequestError: the folder holds another job or other files, its listing was changed, or another process has it;
            a path of `asked` is no UTF-8.
        DataError: `job.json` cannot be read.
        StorageError, OSError: the folder cannot be made or written.
    """
    _expect_recordable(asked)
    expect_folder(folder)
    make_folder(folder)
    record = folder / JOB
    with _alone(folder):
        if not record.is_file():
            _expect_unused(folder)
            images, inputs_hash = _list_images(folder / INPUTS, places)
            write_json(record, asdict(_Recorded(asked, images, inputs_hash)))
        recorded = read_json(record, TypeAdapter(_Recorded), OTHER_OUT)
        here = asdict(asked)
        for name, value in asdict(recorded.asked).items():
            if value != here[name]:
                raise RequestError(
                    f"{folder} holds the answers of another job "
                    f"({name}: {printable(value, 80)} there, {printable(here[name], 80)} here)",
                    OTHER_OUT,
                )
        with open_regular(folder / INPUTS) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != recorded.inputs_hash:
                raise RequestError(f"{folder / INPUTS} is not what this job has listed", OTHER_OUT)
        yield Job(folder, recorded)


def _expect_recordable(asked: Asked) -> None:
    """Refuses a path that `job.json` could not be read back with; the listing takes any."""
    for text in (*asked.arguments, asked.folder, asked.model):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RequestError(
                f"{printable(text)} is no UTF-8, and a job cannot be recorded with it",
                "rename it; below a folder that is named, files may have any names",
            ) from None


def _expect_unused(folder: Path) -> None:
    found = {entry.name for entry in folder.iterdir()}
    if {name for name in found if not name.startswith(".")} - {
        INPUTS
    }:  # a listing alone was left by a job that was killed before it was recorded
        raise RequestError(f"{folder} holds files that belong to no such job", OTHER_OUT)


def _list_images(target: Path, places: Iterable[str]) -> tuple[int, str]:
    """Writes the listing; how many images it has, and its hash."""
    count, digest = 0, hashlib.sha256()
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        for place in places:
            line = json_line(place).encode()
            file.write(line)
            digest.update(line)
            count += 1
    return count, digest.hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder inside the block; it ends with its process.

    The folder's, for its files are replaced by others, which are not locked.

    Raises:
        RequestError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RequestError(
                f"another process is at work on the job in {folder}", "wait for it, or end it first"
            ) from None
        except OSError:  # a file system without locks: parts are the same whoever writes them
            pass
        yield
    finally:
        os.close(descriptor)
