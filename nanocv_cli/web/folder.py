"""The spine of `nanocv export web`: a graph, the page, and what runs it in a browser, as a folder for a static host.

The page is the server's. What asks the server there is `models.js`; here a module of the same name stands in its place,
and asks a worker that runs the graph.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

from nanocv_cli.config.project import cache_folder, project_root
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.reference import find_graph
from nanocv_cli.errors import ModelError, RequestError, StorageError
from nanocv_cli.files import AGAIN, expect_file, expect_folder, folder_beside, fsync, make_folder
from nanocv_cli.output import finite
from nanocv_cli.rooms import room
from nanocv_cli.tasks.table import browser_module_for
from nanocv_cli.untrusted import open_regular
from nanocv_cli.web.runtime import PACKAGE, VERSION, runtime_files

PAGE = files("nanocv_cli.serving") / "page"
OWN = files("nanocv_cli.web") / "assets"
INDEX = "index.html"
CHARSET = '<meta charset="utf-8">'
# A static host sends no headers of ours; frames of others are all that only a header could refuse.
POLICY = "; ".join((
    "default-src 'none'",
    "script-src 'self' 'wasm-unsafe-eval'",
    "worker-src 'self' blob:",  # see `assets/models.js`
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' blob:",
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types nanocv-worker",
))  # fmt: skip
MARK = "model.json"  # written first: a folder with such a file in it, of a card, is one of nanocv's
MARK_BEGINS = b'{"card": '
# A browser gives WebAssembly 4 GiB, and the graph is there twice while it is loaded.
LARGEST_GRAPH = 1 << 30  # bytes


@dataclass(frozen=True)
class WebFolder:
    """A folder that was written.

    Attributes:
        folder: its path.
        files: their names, in the order in which they were written.
        bytes: of them all.
        card: the model's.
        runtime: what runs the graph, with its version.
    """

    folder: Path
    files: tuple[str, ...]
    bytes: int
    card: ModelCard
    runtime: str


def write_web_folder(ref: str | None, out: Path, package: Path | None = None) -> WebFolder:
    """Writes a page that runs a model in the browser; `index.html` is there only while all else is whole.

    A former page stays as it is until all of the new one is on the disk beside it.

    Args:
        ref: see `nanocv_cli.load`; its graph is needed.
        out: the folder. The files of one that was written before are replaced, others left alone.
        package: see `runtime.runtime_files`.

    Raises:
        RequestError: there is no such model, the folder has files of these names that are somebody else's, or see
            `runtime.runtime_files`.
        ModelError: the graph is damaged or too large, or nothing understands its answers in a browser.
        ServingError: see `runtime.runtime_files`.
        StorageError: a file cannot be written.
    """
    expect_folder(out)
    root = project_root()
    graph = Graph(find_graph(ref, root))
    graph.expect_promised_inputs()
    module, content = browser_module_for(graph.card.task), _graph_for_browsers(graph)
    runtime = runtime_files(cache_folder(root), package)
    parts = dict(_parts(graph.card, module, content, runtime))
    _expect_own(out, parts)
    with folder_beside(out / INDEX) as fresh:
        for name, part in parts.items():
            make_folder((fresh / name).parent)
            (fresh / name).write_bytes(part)
            fsync(fresh / name)
        _close(out / INDEX)
        for name in parts:
            _move(fresh / name, out / name)
    size = sum(len(part) for part in parts.values())
    return WebFolder(out, tuple(parts), size, graph.card, f"{PACKAGE} {VERSION}")


def _expect_own(out: Path, parts: Collection[str]) -> None:
    """Refuses to replace files of a folder that was not written here, or anything that is no file.

    Raises:
        RequestError: there is such.
    """
    there = next((name for name in parts if (out / name).exists()), None)
    if there and not (there == MARK and _begins(out / MARK) == MARK_BEGINS):
        raise RequestError(f"{out / there} is there already, and is no page of nanocv's", "choose another folder")
    for name in parts:
        expect_folder((out / name).parent)
        expect_file(out / name)


def _move(fresh: Path, target: Path) -> None:
    """Puts a file of a new page into the place of a former one's, which is closed by now.

    Raises:
        StorageError: it cannot be replaced.
    """
    try:
        make_folder(target.parent)
        fresh.replace(target)
        fsync(target.parent)
    except OSError as error:
        raise StorageError(
            f"cannot write {target}: {error.strerror or error}",
            f"a page that was there is closed until this succeeds: see to that file, then {AGAIN}",
        ) from error


def _close(index: Path) -> None:
    """Takes the page of a former folder away before its other files are replaced.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        index.unlink(missing_ok=True)
        fsync(index.parent)
    except OSError as error:
        raise StorageError(f"cannot replace {index}: {error.strerror or error}", "choose another folder") from error


def _begins(file: Path) -> bytes:
    try:
        with open_regular(file) as content:
            return content.read(len(MARK_BEGINS))
    except OSError:
        return b""


def _parts(card: ModelCard, module: str, graph: bytes, runtime: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """The files of the folder by name: first that by which it is known again, the page last."""
    # The page offers what requests to a server may name: a browser has no more time than a server.
    yield MARK, json.dumps({"card": finite(asdict(card)), "settings": room(card.task).settings}).encode()
    yield "model.onnx", graph
    for name, part in runtime.items():
        yield f"runtime/{name}", part
    yield "task.js", module.encode()
    own = {part.name: part.read_bytes() for part in OWN.iterdir()}
    page = {part.name: part.read_bytes() for part in PAGE.iterdir() if part.name != INDEX}
    yield from (page | own).items()
    index = (PAGE / INDEX).read_text(encoding="utf-8")
    lock = (
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<meta name="referrer" content="no-referrer">'
    )
    yield INDEX, index.replace(CHARSET, f"{CHARSET}\n{lock}", 1).encode()


def _graph_for_browsers(graph: Graph) -> bytes:
    """The graph's file, in which inputs that have a value of their own must be given: a browser can give no others."""
    if (size := graph.path.stat().st_size) > LARGEST_GRAPH:
        raise ModelError(
            f"{graph.path} has {size / 1e9:.1f} GB, and a browser takes {LARGEST_GRAPH / 1e9:.1f}",
            "nanocv serve run serves it",
        )
    content = graph.path.read_bytes()
    if not graph.signature.settings:
        return content
    import onnx

    model = onnx.load_model_from_string(content)
    given = {tensor.name for tensor in model.graph.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in given]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model.SerializeToString()
