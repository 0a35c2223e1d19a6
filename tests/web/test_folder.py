"""The folder: whole, locked, and with a graph that a browser can run."""

import errno
import json
import os
import re
import stat
from dataclasses import asdict, replace
from pathlib import Path

import onnx
import onnxruntime
import pytest

from nanocv_cli import rooms
from nanocv_cli.web.folder import OWN, PAGE, POLICY
from tests.conftest import Command
from tests.contract.world import write_maker
from tests.engine.graphs import COLOURS, colour_card, write_graph
from tests.web.packages import MODULE, WASM, publish, write_package

IMPORT = re.compile(r'(?:\bfrom|\bimport|new URL\()\s*"(\./)?([\w./-]+\.(?:js|wasm))"')


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = write_package(tmp_path / "published.tgz")
    publish(monkeypatch, path)
    return path


def test_everything_that_a_file_asks_for_is_there(nanocv: Command, package: Path, tmp_path: Path) -> None:
    graph, site = write_graph(tmp_path / "model.onnx"), tmp_path / "site"
    done = nanocv("export", "web", "--model", graph, "--out", site, "--runtime", package, "--json")
    assert done.code == 0, done.err
    written = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert written == set(done.document["files"]) and done.document["files"][-1] == "index.html"
    assert done.document["bytes"] == sum((site / name).stat().st_size for name in written)
    asked = {name for path in site.glob("*.js") for _, name in IMPORT.findall(path.read_text())}
    asked |= set(re.findall(r'(?:href|src)="([\w.]+)"', (site / "index.html").read_text()))
    assert {"task.js", "worker.js", "page.css", "runtime/onnxruntime.wasm"} <= asked
    assert asked <= written
    assert (site / "model.onnx").read_bytes() == graph.read_bytes()
    assert json.loads((site / "model.json").read_text())["card"] == json.loads(json.dumps(asdict(colour_card())))
    assert [(site / "runtime" / f"onnxruntime.{end}").read_bytes() for end in ("js", "wasm")] == [MODULE, WASM]


@pytest.mark.parametrize("name", ["index.html", "model.json", "app.js"])
def test_a_folder_with_a_page_of_somebody_elses_is_left_as_it_is(
    nanocv: Command, package: Path, tmp_path: Path, name: str
) -> None:
    graph, site = write_graph(tmp_path / "model.onnx"), tmp_path / "site"
    site.mkdir()
    (site / name).write_text("mine")
    done = nanocv("export", "web", "--model", graph, "--out", site, "--runtime", package)
    assert done.code == 2 and f"{name} is there already" in done.err
    assert [path.name for path in site.iterdir()] == [name] and (site / name).read_text() == "mine"


def test_what_was_written_before_is_replaced_beside_what_others_put_there(
    nanocv: Command, package: Path, tmp_path: Path
) -> None:
    graph, site = write_graph(tmp_path / "model.onnx"), tmp_path / "site"
    site.mkdir()
    (site / "CNAME").write_text("mine")
    for _ in range(2):
        assert nanocv("export", "web", "--model", graph, "--out", site, "--runtime", package).code == 0
        (site / "index.html").unlink()  # as if it had been interrupted
    assert (site / "CNAME").read_text() == "mine"


@pytest.fixture
def former(nanocv: Command, package: Path, tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    """A site that was exported, and its files."""
    site = tmp_path / "site"
    graph = write_graph(tmp_path / "former.onnx", colour_card(name="former"))
    assert nanocv("export", "web", "--model", graph, "--out", site, "--runtime", package).code == 0
    return site, files_of(site)


def files_of(site: Path) -> dict[str, bytes]:
    return {str(path.relative_to(site)): path.read_bytes() for path in site.rglob("*") if path.is_file()}


@pytest.mark.parametrize("full_at", ["model.json", "model.onnx", "index.html"])
def test_a_full_disk_leaves_a_former_page_whole(
    nanocv: Command,
    package: Path,
    tmp_path: Path,
    former: tuple[Path, dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    full_at: str,
) -> None:
    site, before = former
    graph = write_graph(tmp_path / "model.onnx")
    wanted = ("export", "web", "--model", graph, "--out", site, "--runtime", package)
    written: list[int] = []
    writes = {"model.json": 1, "model.onnx": 2, "index.html": len(before)}[full_at]

    def fsync(descriptor: int) -> None:
        """Every file is waited for once; what is not on the disk by then finds no room."""
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            written.append(descriptor)
            if len(written) == writes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fsync)
        done = nanocv(*wanted)
    assert done.code == 1 and "No space left" in done.err and "nothing was lost" in done.err
    assert files_of(site) == before
    assert nanocv(*wanted).code == 0 and files_of(site)["model.onnx"] == graph.read_bytes()


def test_a_page_that_is_half_replaced_is_closed_and_said_to_be(
    nanocv: Command,
    package: Path,
    tmp_path: Path,
    former: tuple[Path, dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site, _ = former
    graph = write_graph(tmp_path / "model.onnx")
    wanted = ("export", "web", "--model", graph, "--out", site, "--runtime", package)
    replace = Path.replace

    def refused(self: Path, target: Path) -> Path:
        if target == site / "model.onnx":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return replace(self, target)

    with monkeypatch.context() as held:
        held.setattr(Path, "replace", refused)
        done = nanocv(*wanted)
    assert done.code == 1 and "model.onnx" in done.err and "is closed until" in done.err
    assert "nothing was lost" not in done.err and not (site / "index.html").exists()
    assert nanocv(*wanted).code == 0 and (site / "index.html").is_file()


def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_is_replaced(
    nanocv: Command, package: Path, tmp_path: Path, former: tuple[Path, dict[str, bytes]]
) -> None:
    site, before = former
    graph = write_graph(tmp_path / "model.onnx")
    wanted = ("export", "web", "--model", graph, "--out", site, "--runtime", package)
    (site / "app.js").unlink()
    (site / "app.js").mkdir()
    del before["app.js"]
    assert nanocv(*wanted).code == 2 and files_of(site) == before
    (site / "app.js").rmdir()
    assert nanocv(*wanted).code == 0 and (site / "index.html").is_file()


def test_the_module_in_the_servers_place_offers_what_the_servers_does() -> None:
    offered = [set(re.findall(r"^export (?:async )?(?:function|class) (\w+)", (folder / "models.js").read_text(), re.M))
               for folder in (PAGE, OWN)]  # fmt: skip
    assert offered[0] == offered[1] and "answerImage" in offered[0]


def test_the_policy_stands_before_all_that_it_binds(nanocv: Command, package: Path, tmp_path: Path) -> None:
    site, graph = tmp_path / "site", write_graph(tmp_path / "model.onnx")
    assert nanocv("export", "web", "--model", graph, "--out", site, "--runtime", package).code == 0
    before, _, after = (site / "index.html").read_text().partition(POLICY)
    assert not re.search(r"<(script|link|style|img)", before) and "<script" in after
    assert "'unsafe-inline'" not in POLICY and "'unsafe-eval'" not in POLICY and "http" not in POLICY


def test_a_sampler_is_given_all_of_its_inputs(nanocv: Command, package: Path, tmp_path: Path) -> None:
    maker, site = write_maker(tmp_path / "maker.onnx", COLOURS), tmp_path / "site"
    assert nanocv("export", "web", "--model", maker, "--out", site, "--runtime", package).code == 0
    session = onnxruntime.InferenceSession(site / "model.onnx")
    assert [given.name for given in session.get_inputs()] == [given.name for given in onnx.load(maker).graph.input]
    assert session.get_overridable_initializers() == []


def test_a_task_without_a_module_for_browsers_is_refused(
    nanocv: Command, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(rooms.BUILT_IN["classification"], browser=None)
    monkeypatch.setitem(rooms.BUILT_IN, "classification", plain)
    graph = write_graph(tmp_path / "model.onnx")
    done = nanocv("export", "web", "--model", graph, "--out", tmp_path / "site", "--runtime", package)
    assert done.code == 1 and "in a browser" in done.err and not (tmp_path / "site").exists()


def test_a_module_that_a_package_lacks_is_its_fault(
    nanocv: Command, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("nanocv_cli.tasks/missing.js", "no.such.package/task.js"):
        broken = replace(rooms.BUILT_IN["classification"], browser=path)
        monkeypatch.setitem(rooms.BUILT_IN, "classification", broken)
        graph = write_graph(tmp_path / "model.onnx")
        done = nanocv("export", "web", "--model", graph, "--out", tmp_path / "site", "--runtime", package)
        assert done.code == 1 and "is broken" in done.err and path in done.err
