"""Folders of `export web` behind a plain server of files, and what is asked of their pages."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from nanocv_cli.config.project import cache_folder
from nanocv_cli.web.runtime import PACKAGE, VERSION
from tests.conftest import REPOSITORY
from tests.serving.page.task_graphs import write_repository

MOST_SECONDS = 120  # for an answer, on a machine with much else to do
# In the runtime's place: probabilities as the graph of colours gives them, by the image's mean, and for the other tasks
# what does not depend on anything. At a black image it fails as WebAssembly does, with a number.
STAND_IN = b"""
export const env = { wasm: {} };
export class Tensor {
  constructor(type, data, dims) { Object.assign(this, { type, data, dims }); }
}
export const InferenceSession = {
  create: async () => ({
    inputNames: ["images"],
    run: async ({ images, guidance }) => {
      if (images?.data.every((value) => value === 0)) throw 42;
      const means = [0, 0, 0];
      images?.data.forEach((value, place) => { means[place % 3] += (3 * value) / images.data.length; });
      const shares = means.map((mean) => Math.exp(0.05 * mean));
      const total = shares.reduce((sum, share) => sum + share);
      return {
        probabilities: { data: shares.map((share) => share / total), dims: [1, 3] },
        boxes: { data: [0.25, 0.5, 0.75, 1], dims: [1, 1, 4] },
        scores: { data: [0.75], dims: [1, 1] },
        labels: { data: [1n], dims: [1, 1] },
        mask: { data: Array.from({ length: 64 }, (_, place) => (place % 8 < 4 ? 0 : 1)), dims: [1, 8, 8] },
        confidence: { data: Array(64).fill(0.5), dims: [1, 8, 8] },
        image: { data: new Uint8Array(192).fill(10 * guidance?.data[0]), dims: [1, 8, 8, 3] },
      };
    },
  }),
};
"""


def published_package() -> Path:
    """The runtime's package, which `NANOCV_WEB_RUNTIME` names or an earlier `export web` has fetched."""
    named = os.environ.get("NANOCV_WEB_RUNTIME")
    path = Path(named) if named else cache_folder(REPOSITORY) / "web" / f"{PACKAGE}-{VERSION}.tgz"
    if not path.is_file():
        pytest.skip(f"no {PACKAGE} {VERSION} here: nanocv export web fetches it, or NANOCV_WEB_RUNTIME names its file")
    return path


def write_graphs(folder: Path) -> dict[str, Path]:
    """A graph for each task, by name; the sampler's with the inputs that an exported one has beside noise and label."""
    write_repository(folder / "repository")
    graphs = {path.stem: path for path in (folder / "graphs").iterdir()}
    sampler = onnx.load(graphs["sampler"])
    for name, kind, value in (("heun", TensorProto.BOOL, False), ("evaluations", TensorProto.INT64, 9)):
        sampler.graph.input.append(helper.make_tensor_value_info(name, kind, []))
        sampler.graph.initializer.append(helper.make_tensor(name, kind, [], [value]))
    onnx.save(sampler, str(graphs["sampler"]))
    return graphs


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serves files as `python -m http.server` does; yields the origin."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as host:
        thread = threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{host.server_port}"
        finally:
            host.shutdown()
            thread.join()


def outcome(browser: Any, body: str, *arguments: object) -> Any:
    """What the body of an async function in JavaScript returns, given `arguments` in `given`."""
    browser.set_script_timeout(MOST_SECONDS)
    script = "const given = Array.from(arguments), done = given.pop();"
    return browser.execute_async_script(f"{script} (async () => {{ {body} }})().catch(String).then(done)", *arguments)
