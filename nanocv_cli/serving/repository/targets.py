"""Files by which others run a repository's models: KServe's InferenceService, a docker compose file."""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from nanocv_cli import files
from nanocv_cli.config.schema import ServeConfig
from nanocv_cli.errors import RequestError
from nanocv_cli.serving.repository.entry import Entry
from nanocv_cli.serving.repository.versions import GRAPH

NVIDIA_IMAGE = "nvcr.io/nvidia/tritonserver"
DEFAULT_IMAGE = f"{NVIDIA_IMAGE}:25.03-py3"
PORTS = (8000, 8001, 8002)  # HTTP, gRPC, metrics
URI = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.ASCII)
GIB = 1 << 30


def write_kserve(entry: Entry, settings: ServeConfig, folder: Path, storage_uri: str | None, image: str) -> Path:
    """Writes `<model>.kserve.yaml`, an InferenceService that runs the entry by KServe's Triton runtime.

    Args:
        entry: a written entry.
        settings: those it was written with.
        folder: where the file goes.
        storage_uri: where the cluster finds the repository's content, such as `s3://bucket/model_repository`.
        image: Triton's image.

    Raises:
        RequestError: no storage URI, or a model name that cannot become a Kubernetes name.
        StorageError: the file cannot be written.
    """
    check_storage_uri(storage_uri)
    document = inference_service(entry, settings, str(storage_uri), image)
    return _dump(folder / f"{entry.model}.kserve.yaml", document)


def write_compose(entry: Entry, settings: ServeConfig, folder: Path, image: str) -> Path:
    """Writes `triton.compose.yaml`, which serves the whole repository, read-only, on this machine's loopback.

    Raises:
        StorageError: the file cannot be written.
    """
    return _dump(folder / "triton.compose.yaml", compose(entry, settings, folder, image))


def check_storage_uri(storage_uri: str | None) -> None:
    """Makes sure there is one.

    Raises:
        RequestError: there is none, or it is no URI.
    """
    if storage_uri is None or not URI.fullmatch(storage_uri):
        what = "--target kserve needs a storage URI" if storage_uri is None else f"{storage_uri!r} is no storage URI"
        raise RequestError(what, "--storage-uri s3://BUCKET/model_repository, or pvc://..., gs://..., https://...")


def inference_service(entry: Entry, settings: ServeConfig, storage_uri: str, image: str) -> dict[str, Any]:
    """KServe's `InferenceService` (serving.kserve.io/v1beta1).

    Raises:
        RequestError: the model's name cannot become a Kubernetes name.
    """
    graph = entry.repository / entry.model / str(entry.version) / GRAPH
    memory = -(-(GIB + 4 * settings.instances * graph.stat().st_size) // GIB)
    amounts = {"cpu": str(max(1, settings.threads * settings.instances)), "memory": f"{memory}Gi"}
    # A GPU is a limit by itself: Kubernetes requests as many.
    gpus = {"nvidia.com/gpu": str(max(settings.gpus, default=0) + 1)} if settings.kind == "gpu" else {}
    repository, _, tag = image.rpartition(":")
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": _kubernetes_name(entry.model)},
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": "onnx" if settings.backend == "onnxruntime" else "triton"},
                    "runtime": "kserve-tritonserver",
                    **({"runtimeVersion": tag} if repository == NVIDIA_IMAGE else {"image": image}),
                    "protocolVersion": "v2",
                    "storageUri": storage_uri,
                    "resources": {"requests": dict(amounts), "limits": amounts | gpus},
                }
            }
        },
    }


def compose(entry: Entry, settings: ServeConfig, folder: Path, image: str) -> dict[str, Any]:
    """A compose file's content; the repository's path in it is relative to `folder`."""
    source = os.path.relpath(entry.repository.resolve(), folder.resolve())
    service: dict[str, Any] = {
        "image": _literal(image),
        "command": ["tritonserver", "--model-repository=/models"],
        "ports": [f"127.0.0.1:{port}:{port}" for port in PORTS],
        "volumes": [
            {
                "type": "bind",
                "source": _literal(source if source.startswith("..") else f"./{source}"),
                "target": "/models",
                "read_only": True,
            }
        ],
        "shm_size": "256mb",  # the Python backend hands tensors over in shared memory
        "healthcheck": {
            "test": ["CMD", "curl", "--fail", "--silent", "http://127.0.0.1:8000/v2/health/ready"],
            "interval": "5s",
            "timeout": "3s",
            "retries": 3,
            "start_period": "60s",
        },
    }
    if settings.kind == "gpu":
        which = {"device_ids": [str(index) for index in settings.gpus]} if settings.gpus else {"count": "all"}
        device = {"driver": "nvidia", **which, "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    return {"services": {"triton": service}}


def _literal(text: str) -> str:
    """Text in which compose shall see no variable."""
    return text.replace("$", "$$")


def _kubernetes_name(model: str) -> str:
    """The model's name in lower-case letters, digits and hyphens."""
    name = re.sub("[^a-z0-9]+", "-", model.lower()).strip("-")
    if not re.fullmatch("[a-z][a-z0-9-]{0,62}", name):
        raise RequestError(
            f"{model!r} cannot become a Kubernetes name", "choose a --name that begins with a letter, 63 at most"
        )
    return name


def _dump(path: Path, document: dict[str, Any]) -> Path:
    files.write_text(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    return path
