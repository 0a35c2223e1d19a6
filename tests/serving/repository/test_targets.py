"""The files for compose and KServe, read back."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from nanocv_cli.errors import RequestError
from nanocv_cli.serving.repository.entry import Entry, write_entry
from nanocv_cli.serving.repository.targets import DEFAULT_IMAGE, write_compose, write_kserve
from tests.serving.repository.entries import graph, settings


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    return write_entry(graph(tmp_path), tmp_path / "model_repository", settings(), name="Two_colours.v1")


def service(entry: Entry, folder: Path, image: str = DEFAULT_IMAGE, **changes: Any) -> Any:
    path = write_compose(entry, settings(**changes), folder, image)
    return yaml.safe_load(path.read_text())["services"]["triton"]


def model(entry: Entry, image: str = DEFAULT_IMAGE, **changes: Any) -> Any:
    path = write_kserve(entry, settings(**changes), entry.repository.parent, "s3://bucket/models", image)
    document = yaml.safe_load(path.read_text())
    assert (document["apiVersion"], document["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert document["metadata"] == {"name": "two-colours-v1"}
    return document["spec"]["predictor"]["model"]


def test_compose_serves_the_repository_read_only_on_loopback(entry: Entry, tmp_path: Path) -> None:
    triton = service(entry, tmp_path)
    assert triton["image"] == "nvcr.io/nvidia/tritonserver:25.03-py3"
    assert triton["ports"] == [f"127.0.0.1:{port}:{port}" for port in (8000, 8001, 8002)]
    mount = {"type": "bind", "source": "./model_repository", "target": "/models", "read_only": True}
    assert triton["volumes"] == [mount]
    assert "--model-repository=/models" in triton["command"]
    assert triton["healthcheck"]["test"][-1].endswith("/v2/health/ready")
    assert "deploy" not in triton


def test_compose_elsewhere_still_finds_the_repository(entry: Entry, tmp_path: Path) -> None:
    folder = tmp_path / "$deploy" / "here"
    source = service(entry, folder, image="my/$image")["volumes"][0]["source"]
    assert source.startswith("..")
    assert os.path.samefile(folder / source.replace("$$", "$"), entry.repository)  # noqa: PTH121
    assert service(entry, folder, image="my/$image")["image"] == "my/$$image"


@pytest.mark.parametrize(("gpus", "wanted"), [((), {"count": "all"}), ((2, 0), {"device_ids": ["2", "0"]})])
def test_compose_reserves_gpus(entry: Entry, tmp_path: Path, gpus: tuple[int, ...], wanted: dict[str, Any]) -> None:
    deploy = service(entry, tmp_path, kind="gpu", gpus=gpus)["deploy"]
    device = {"driver": "nvidia", "capabilities": ["gpu"], **wanted}
    assert deploy == {"resources": {"reservations": {"devices": [device]}}}


def test_kserve_runs_triton_with_the_v2_protocol(entry: Entry) -> None:
    predictor = model(entry, threads=2, instances=3)
    assert predictor["modelFormat"] == {"name": "onnx"}
    assert predictor["runtime"] == "kserve-tritonserver"
    assert predictor["runtimeVersion"] == "25.03-py3"
    assert predictor["protocolVersion"] == "v2"
    assert predictor["storageUri"] == "s3://bucket/models"
    amounts = {"cpu": "6", "memory": "2Gi"}
    assert predictor["resources"] == {"requests": amounts, "limits": amounts}


def test_kserve_python_models_gpus_and_own_images(entry: Entry) -> None:
    predictor = model(entry, image="registry/own:1", backend="python", kind="gpu", gpus=(0, 1))
    assert predictor["modelFormat"] == {"name": "triton"}
    assert predictor["image"] == "registry/own:1"
    assert "runtimeVersion" not in predictor
    assert predictor["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert "nvidia.com/gpu" not in predictor["resources"]["requests"]


@pytest.mark.parametrize("uri", [None, "", "bucket/models", "s3://", "s3://a b"])
def test_kserve_needs_a_storage_uri(entry: Entry, tmp_path: Path, uri: str | None) -> None:
    with pytest.raises(RequestError, match="storage URI"):
        write_kserve(entry, settings(), tmp_path, uri, DEFAULT_IMAGE)


def test_a_name_that_kubernetes_cannot_take_is_refused(tmp_path: Path) -> None:
    entry = write_entry(graph(tmp_path), tmp_path / "model_repository", settings(), name="7_")
    with pytest.raises(RequestError, match="Kubernetes"):
        write_kserve(entry, settings(), tmp_path, "s3://bucket/models", DEFAULT_IMAGE)
