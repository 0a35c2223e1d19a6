"""Finds NVIDIA's Triton on this machine and says how to start it: on PATH, else the one that pip can install.

The pip package `nvidia-pytriton` carries a whole `tritonserver` (with the Python backend only) and wants an environment
of its own; `make triton` prepares it in `.triton`.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.errors import ServingError
from nanocv_cli.interrupts import Terminated
from nanocv_cli.serving.ports import Control, Ports

ENVIRONMENT = ".triton"
PROBE_SECONDS = 60.0
PREPARE = "make triton prepares one (Linux on x86-64), or run NVIDIA's container: nanocv serve config --target compose"
WHERE = (
    "import sys, sysconfig; p = sysconfig.get_paths()['purelib']; v = sys.version_info; "
    "print(p, sysconfig.get_config_var('LIBDIR'), f'{v[0]}.{v[1]}', sep='\\n')"
)


@dataclass(frozen=True)
class TritonCommand:
    """How to start a Triton: the command line's start and the whole environment."""

    arguments: list[str]
    environment: dict[str, str]


def find_triton(root: Path) -> TritonCommand:
    """The Triton to use: `tritonserver` on PATH, else the pip one in `.triton` under `root` (or `NANOCV_TRITON`).

    Raises:
        ServingError: there is none.
    """
    on_path = shutil.which("tritonserver")
    if on_path:
        return TritonCommand([on_path], dict(os.environ))
    folder = Path(os.environ.get("NANOCV_TRITON") or root / ENVIRONMENT)
    python = folder / "bin" / "python"
    if not python.is_file():
        raise ServingError(f"no tritonserver on PATH, and no environment of its own in {folder}", PREPARE)
    try:
        told = subprocess.run([python, "-c", WHERE], capture_output=True, text=True, timeout=PROBE_SECONDS, check=True)
        packages, libraries, version = told.stdout.splitlines()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ServingError(f"{python} does not run", "remove that folder, then make triton") from error
    carried = Path(packages) / "pytriton" / "tritonserver"
    server = carried / "bin" / "tritonserver"
    if not server.is_file():
        raise ServingError(f"{folder} holds no tritonserver", "remove that folder, then make triton")
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": f"{packages}/nvidia_pytriton.libs:{libraries}",
        # The Python backend finds its packages by the interpreter that comes first on PATH.
        "PATH": f"{(folder / 'bin').absolute()}:{os.environ.get('PATH', '')}",
    }
    backends = _backends_with_stub(folder.absolute(), carried, version)
    return TritonCommand([str(server), "--backend-directory", str(backends)], environment)


def server_arguments(repository: Path, ports: Ports, control: Control, poll_seconds: float = 1.0) -> list[str]:
    """Triton's options for the same repository, ports and manner of control as the embedded server."""
    manners = {
        "none": ["--model-control-mode=none"],
        "explicit": ["--model-control-mode=explicit", "--load-model=*"],
        "poll": ["--model-control-mode=poll", f"--repository-poll-secs={max(1, round(poll_seconds))}"],
    }
    return [
        "--model-repository", str(repository.absolute()),
        "--http-address", ports.host, "--http-port", str(ports.http),
        "--grpc-address", ports.host, "--grpc-port", str(ports.grpc),
        "--metrics-address", ports.host, "--metrics-port", str(ports.metrics),
        "--disable-auto-complete-config",
        *manners[control],
    ]  # fmt: skip


def _backends_with_stub(folder: Path, carried: Path, version: str) -> Path:
    """A folder of backends in which the Python one has the stub for the environment's Python; made once."""
    backends = folder / "backends"
    stub = backends / "python" / "triton_python_backend_stub"
    if stub.is_file():
        return backends
    fitting = carried / "python_backend_stubs" / version / stub.name
    if not fitting.is_file():
        raise ServingError(f"this Triton has no Python backend for Python {version}", PREPARE)
    making = folder / "backends.part"
    shutil.rmtree(making, ignore_errors=True)
    shutil.copytree(carried / "backends", making)
    shutil.copy2(fitting, making / "python" / stub.name)
    shutil.rmtree(backends, ignore_errors=True)
    making.replace(backends)
    return backends


def run_triton(command: TritonCommand, repository: Path, ports: Ports, control: Control, poll_seconds: float) -> int:
    """Runs Triton in the foreground, with its own output; returns its exit status.

    Raises:
        ServingError: it cannot be started.
    """
    arguments = [*command.arguments, *server_arguments(repository, ports, control, poll_seconds)]
    try:
        with subprocess.Popen(arguments, env=command.environment) as process:
            while True:
                try:
                    return process.wait()
                except Terminated:  # sent to this process alone
                    process.terminate()
                except KeyboardInterrupt:  # the terminal has told Triton too: it drains and ends
                    continue
    except OSError as error:
        raise ServingError(f"{arguments[0]} cannot be started: {error.strerror}", PREPARE) from error
