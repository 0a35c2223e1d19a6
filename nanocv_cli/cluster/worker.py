"""What a worker of the cluster does: it opens the graph, answers the images of a part, and writes them as one file.

Nothing but plain values and the dataclasses of `job.py` goes to a worker and comes back. No Ray.
"""

import socket
from functools import lru_cache
from pathlib import Path

from nanocv_cli import __version__
from nanocv_cli.api.model import Model, load
from nanocv_cli.cluster.job import JOB, Asked, Part, WholePart, examine, model_hash
from nanocv_cli.errors import ClusterError
from nanocv_cli.files import atomic_path
from nanocv_cli.images.sources import source_at
from nanocv_cli.output import json_line

SHARED = "images, model and --out lie under the same paths on every machine: share their folders"


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
