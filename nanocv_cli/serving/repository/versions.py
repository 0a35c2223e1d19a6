"""The versions of an entry: which are there or can be brought, which are served, whether one config describes all."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.dvc.records import tracked_files
from nanocv_cli.dvc.retrieve import default_remote, fetch
from nanocv_cli.engine.graph import Graph
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.output import say
from nanocv_cli.untrusted import holds

GRAPH = "model.onnx"
LARGEST_GRAPH = (1 << 31) - 1  # bytes: protobuf's own limit for an ONNX file
LARGEST_VERSION = 2**63 - 1


def versions(entry: Path) -> list[int]:
    """An entry's versions in order: its sub-folders named by a whole number from 1 on, as Triton has it."""
    if not entry.is_dir():
        return []
    names = [path.name for path in entry.iterdir() if path.is_dir()]
    return sorted(int(name) for name in names if re.fullmatch("[1-9][0-9]{0,18}", name, re.ASCII))


def chosen(entry: Path, asked: int | None, content: bytes, next_version: bool) -> int:
    """The version that a graph is, or shall be.

    Args:
        entry: the entry's folder.
        asked: what the user named.
        content: the graph's.
        next_version: whether the newest version's graph is left alone if it is another one.

    Raises:
        RequestError: `asked` is out of range.
        ModelError: the newest version's graph cannot be read.
    """
    if asked is not None:
        if not 1 <= asked <= LARGEST_VERSION:
            raise RequestError(f"version {asked} is out of range", "versions are whole numbers from 1 on")
        return asked
    there = versions(entry)
    if not there:
        return 1
    graph = entry / str(there[-1]) / GRAPH
    same = graph.is_file() and same_content(graph, content)
    return there[-1] if same or not next_version else there[-1] + 1


def same_content(path: Path, content: bytes) -> bool:
    """Whether a file of an entry is as it shall be.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        return holds(path, content)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", "mend its permissions, or remove it") from error


class MissingVersionError(ModelError):
    """A version policy names a version that is not there.

    Args:
        number: the version.
        there: those that are.
    """

    def __init__(self, number: int, there: Sequence[int]) -> None:
        shown = ", ".join(map(str, there)) or "none"
        super().__init__(f"version {number} is missing; there is {shown}", "name versions that are there")
        self.number = number


def served(there: list[int], policy: pb.ModelVersionPolicy) -> list[int]:
    """Those of an entry's versions that a version policy serves, in order; as Triton has it, the newest by default.

    Args:
        there: an entry's versions, in order.
        policy: of its config.

    Raises:
        MissingVersionError: the policy names one that is not there.
    """
    if policy.HasField("specific"):
        wanted = sorted(set(policy.specific.versions))
        if missing := [number for number in wanted if number not in there]:
            raise MissingVersionError(missing[0], there)
        return wanted
    if policy.HasField("all"):
        return there
    return there[-max(1, policy.latest.num_versions) :]


def bring_versions(repository: Path, root: Path, told: Callable[[str], None] = say) -> None:
    """Brings the graphs of entries that DVC tracks and that are not here, and says so; never over a network.

    Args:
        repository: the folder of entries.
        root: the project.
        told: takes that line; stderr by default.

    Raises:
        RequestError: the default remote does not hold them, or lies behind a network.
        DataError: what DVC or the remote holds is damaged.
        StorageError: a graph cannot be written.
    """
    place = os.path.relpath(os.path.realpath(repository), os.path.realpath(root))
    if place.startswith(os.pardir) or not (root / "dvc.lock").is_file():
        return
    missing = [
        file
        for path, file in tracked_files(root).items()
        # An entry that was removed stays so.
        if path.startswith(f"{place}/") and not (root / path).exists() and (root / path).parents[1].is_dir()
    ]
    remote = default_remote(root)
    brought = [file for file in missing if remote and fetch(root, file, remote)]
    if brought:
        size = sum(file.size or 0 for file in brought)
        what = f"{len(brought)} graphs were" if len(brought) > 1 else f"{brought[0].path} was"
        told(f"{what} not here: taken from the repository's own remote ({size / 1e6:.1f} MB)")
    if len(brought) < len(missing):
        far = remote and remote.folder is None
        where = f"lie in the remote {remote.name} ({remote.url})" if remote and far else "are not in the default remote"
        raise RequestError(f"graphs of {repository} are not here; they {where}", f"nanocv data pull {place}")


def check_alike(graph: Graph, entry: Path, numbers: list[int]) -> None:
    """Makes sure that one config describes a graph and other versions: same tensors, same classes.

    Args:
        graph: the graph.
        entry: the entry's folder.
        numbers: the other versions that are served.

    Raises:
        ModelError: a version is not like it, or has no graph.
    """
    for number in numbers:
        other = Graph(entry / str(number) / GRAPH)
        if (other.signature, other.card.classes) != (graph.signature, graph.card.classes):
            raise ModelError(
                f"version {number} of {entry.name} has other inputs, outputs or classes, and would be served too",
                "give the graph another --name, or serve only the newest: --set serve.version_policy=latest",
            )
