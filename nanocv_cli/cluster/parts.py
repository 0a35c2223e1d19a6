"""What is asked of a worker of the cluster: a part, images that it answers and writes as one file; and what is whole.

Nothing but plain values and the dataclasses of this module goes to a worker and comes back. No Ray.
"""

import hashlib
import json
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as strict_dataclass

from nanocv_cli import __version__
from nanocv_cli.api.model import Model, load
from nanocv_cli.engine.engine import graph_files
from nanocv_cli.errors import ClusterError
from nanocv_cli.files import atomic_path
from nanocv_cli.images.sources import source_at
from nanocv_cli.output import json_line
from nanocv_cli.untrusted import open_regular

JOB = "job.json"  # in the folder of a job
PROBLEMS_KEPT = 10  # of a part's unreadable images, for people; all of them stand in the part
SHARED = "images, model and --out lie under the same paths on every machine: share their folders"


@strict_dataclass(frozen=True, config=ConfigDict(strict=True))
class Asked:
    """What a job is asked; two calls that ask the same are one job.

    Attributes:
        arguments: the images, as they were named.
        folder: where relative paths begin.
        model: the graph's file.
        model_hash: sha256 of the graph, hex digits.
        runtime: what runs it, a name of `runtimes.RUNTIMES`.
        precision: what it is computed in.
        top: most answers per image; None: the task's own number.
        batch_size: images that are answered at a time.
        tile: side of the squares that images are cut into, pixels; 0: they are read whole.
        part_images: images of a part, a multiple of `batch_size`, so that batches are those of one process.
        version: of nanocv.
    """

    arguments: tuple[str, ...]
    folder: str
    model: str
    model_hash: str
    runtime: str
    precision: str
    top: int | None
    batch_size: int
    tile: int
    part_images: int
    version: str


@dataclass(frozen=True)
class Part:
    """Images that are answered together.

    Attributes:
        name: of the file of their answers.
        places: their paths and URLs, see `sources.source_at`.
    """

    name: str
    places: list[str]


@dataclass(frozen=True)
class WholePart:
    """A file of answers that is whole.

    Attributes:
        name: of the file.
        images: answered or found unreadable.
        skipped: the unreadable ones.
        bytes: of the file.
        sha256: of the file, hex digits.
        problems: of the first unreadable ones, the path and why.
    """

    name: str
    images: int
    skipped: int
    bytes: int
    sha256: str
    problems: list[tuple[str, str]]


def answer_part(asked: Asked, part: Part, folder: str, threads: int) -> WholePart:
    """Answers a part and writes its file, whole or not at all.

    Args:
        asked: what the job is.
        part: images to answer.
        folder: the job's, under the same path on each machine.
        threads: that the graph and the decoding have each, at least 1.

    Raises:
        ClusterError: this machine has another nanocv, another model, or does not see the job's folder.
        NanocvError: the model cannot be opened or fails, a store does not answer, or the file cannot be written.
    """
    machine = socket.gethostname()
    if asked.version != __version__:
        raise ClusterError(
            f"{machine} has nanocv {__version__}, this job is of {asked.version}", "install one version on all machines"
        )
    if not Path(folder, JOB).is_file():
        raise ClusterError(f"{machine} does not see {folder}", SHARED)
    model = _opened(asked, threads)
    sources = (source_at(place, Path(asked.folder)) for place in part.places)
    target = Path(folder, part.name)
    with atomic_path(target) as temporary, temporary.open("w", encoding="ascii") as file:
        for answer, result in model.stream(sources, asked.top, asked.batch_size, asked.tile, decoders=threads):
            file.write(json_line(model.line(answer, result)))
    whole = examine(target, len(part.places))
    if whole is None:
        raise ClusterError(f"{target} does not hold what {machine} has written there", SHARED)
    return whole


@lru_cache(maxsize=1)  # for the parts that follow in this process
def _opened(asked: Asked, threads: int) -> Model:
    machine = socket.gethostname()
    try:
        found = model_hash(Path(asked.model))
    except OSError as error:
        raise ClusterError(f"{machine} cannot read {asked.model}: {error.strerror or error}", SHARED) from error
    if found != asked.model_hash:
        raise ClusterError(f"{asked.model} is another model on {machine} than where this job began", SHARED)
    return load(asked.model, engine=asked.runtime, device="cpu", threads=threads, precision=asked.precision)


def examine(path: Path, images: int) -> WholePart | None:
    """A file of answers, if it is whole.

    Args:
        path: the file.
        images: how many it answers.
    """
    count = skipped = size = 0
    digest = hashlib.sha256()
    problems: list[tuple[str, str]] = []
    try:
        with open_regular(path) as file:
            for line in file:
                answer = json.loads(line)
                count += line.endswith(b"\n")
                size += len(line)
                digest.update(line)
                if "error" in answer:
                    skipped += 1
                    if skipped <= PROBLEMS_KEPT:
                        problems.append((answer["path"], answer["error"]))
    except (OSError, ValueError, TypeError, KeyError):  # not there, cut short, or none of ours
        return None
    if count != images:
        return None
    return WholePart(path.name, count, skipped, size, digest.hexdigest(), problems)


def model_hash(path: Path) -> str:
    """sha256 of a graph's files, hex digits.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    for file in graph_files(path):
        with open_regular(file) as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()
