"""A cluster of two workers on this machine, for all tests of the session, and images that take a moment to decode."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.conftest import COLOURS, REPOSITORY
from tests.engine.graphs import write_graph

COUNT, BROKEN = 23, 5
# A process that starts a cluster as a job does, and keeps it until its standard input ends.
HOLDER = """
import sys
from nanocv_cli.cluster import ray_cluster
ray_cluster.usable_processors = lambda: 2
with ray_cluster.connected(None):
    import ray
    print(ray.get_runtime_context().gcs_address, file=sys.__stdout__, flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class RunningCluster:
    """A cluster, and the process that holds it."""

    address: str
    holder: psutil.Process

    def processes(self) -> list[psutil.Process]:
        return [self.holder, *self.holder.children(recursive=True)]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    # The machine's memory may be full of other people's work, which is no reason to end a worker here.
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "c" * 64, "RAY_memory_monitor_refresh_ms": "0"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER],
            cwd=tmp_path_factory.mktemp("holder"),
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "RAY_AUTH_MODE": "disabled"},  # which is not heard
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder:
            assert holder.stdout
            yield RunningCluster(holder.stdout.readline().strip(), psutil.Process(holder.pid))
            holder.communicate()
        assert holder.returncode == 0


@pytest.fixture(scope="session")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a graph and `photos`: three noisy photographs under many names, and one that is broken."""
    folder = tmp_path_factory.mktemp("pictured")
    write_graph(folder / "model.onnx")
    (folder / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 60, (1200, 1200, 3))
    for number, colour in enumerate(COLOURS.values()):
        image = np.clip(noise + colour, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{number}.png", compress_level=1)
    for number in range(COUNT):
        path = folder / "photos" / f"{number:02d}.png"
        if number == BROKEN:
            path.write_bytes(b"broken")
        else:
            path.hardlink_to(folder / f"{number % 3}.png")
    return folder
