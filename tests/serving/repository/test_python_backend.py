"""The shipped `model.py`, run with a stand-in for what Triton's Python backend gives it."""

import importlib.util
import io
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from PIL import Image

from nanocv_cli.engine.graph import Graph
from nanocv_cli.serving.repository.entry import Entry, write_entry
from nanocv_cli.serving.repository.pbtxt import read_config
from nanocv_cli.serving.repository.python_backend import SHIPPED_MODEL_PY
from tests.engine.graphs import SIDE
from tests.serving.repository.entries import graph, settings


@dataclass
class Tensor:
    name: str
    values: Any

    def as_numpy(self) -> Any:
        return self.values


@dataclass
class InferenceResponse:
    output_tensors: list[Tensor]
    error: Any = None


class TritonError(str):
    INVALID_ARG, INTERNAL = "INVALID_ARG", "INTERNAL"
    kind: str

    def __new__(cls, message: str, kind: str) -> "TritonError":
        made = super().__new__(cls, message)
        made.kind = kind
        return made


@dataclass
class Request:
    tensors: dict[str, Any] = field(default_factory=dict)
    named: str = ""

    def parameters(self) -> str:
        return self.named


def get_input_tensor_by_name(request: Request, name: str) -> Tensor | None:
    return Tensor(name, request.tensors[name]) if name in request.tensors else None


def initialised(monkeypatch: pytest.MonkeyPatch, entry: Entry) -> Any:
    """The model of an entry, initialised as Triton does it."""
    utilities = SimpleNamespace(
        Tensor=Tensor,
        InferenceResponse=InferenceResponse,
        TritonError=TritonError,
        get_input_tensor_by_name=get_input_tensor_by_name,
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utilities)
    monkeypatch.setattr(sys, "path", [*sys.path])  # it adds to it
    config = MessageToDict(read_config(entry.config), preserving_proto_field_name=True)
    shipped = entry.config.parent / "1" / "model.py"
    assert shipped.read_bytes() == SHIPPED_MODEL_PY.read_bytes()
    spec = importlib.util.spec_from_file_location("shipped_model", shipped)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loaded = module.TritonPythonModel()
    loaded.initialize(
        {
            "model_config": json.dumps(config),
            "model_repository": str(entry.config.parent),
            "model_version": "1",
            "model_instance_kind": "CPU",
            "model_instance_device_id": "0",
        }
    )
    return loaded


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """That of an entry of pixels; `runs` counts the graph's runs."""
    wanted = settings(backend="python", threads=1, execution_mode="parallel")
    loaded = initialised(monkeypatch, write_entry(graph(tmp_path), tmp_path / "repository", wanted))
    loaded.runs = 0
    run = loaded._session.run

    def counted(*arguments: Any) -> Any:
        loaded.runs += 1
        return run(*arguments)

    options = loaded._session.get_session_options()
    loaded._session = SimpleNamespace(run=counted)
    loaded.options = options
    return loaded


def images(count: int, side: int = SIDE) -> Any:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_a_batch_is_one_run_and_each_request_gets_its_rows(model: Any, tmp_path: Path) -> None:
    runner = Graph(graph(tmp_path))
    batches = [images(count) for count in (1, 3, 2)]
    responses = model.execute([Request({"images": batch}) for batch in batches])
    assert model.runs == 1
    for batch, response in zip(batches, responses, strict=True):
        assert response.error is None
        assert [tensor.name for tensor in response.output_tensors] == ["probabilities"]
        expected = runner.run(batch)["probabilities"]
        np.testing.assert_allclose(response.output_tensors[0].values, expected, atol=1e-6)


def test_only_the_bad_request_of_a_batch_fails(model: Any, tmp_path: Path) -> None:
    good = images(2)
    wrong_size, nothing = Request({"images": images(1, SIDE + 1)}), Request()
    responses = model.execute([Request({"images": good}), wrong_size, nothing, Request({"images": good})])
    assert [response.error is None for response in responses] == [True, False, False, True]
    assert all(response.output_tensors == [] and "\n" not in response.error for response in responses[1:3])
    expected = Graph(graph(tmp_path)).run(good)["probabilities"]
    np.testing.assert_allclose(responses[3].output_tensors[0].values, expected, atol=1e-6)


def test_a_single_bad_request_is_answered_with_an_error(model: Any) -> None:
    response = model.execute([Request({"images": images(1, SIDE + 1)})])[0]
    assert response.error


def test_an_output_with_other_rows_than_the_input_is_an_error_not_a_mix(model: Any) -> None:
    model._session.run = lambda names, feed: [np.zeros((1, 3), np.float32)]
    responses = model.execute([Request({"images": images(1)}), Request({"images": images(2)})])
    assert [response.error is None for response in responses] == [True, False]


def test_thread_settings_come_from_the_config(model: Any) -> None:
    assert model.options.intra_op_num_threads == 1
    assert model.options.execution_mode.name == "ORT_PARALLEL"
    model.finalize()


@pytest.mark.parametrize(
    ("named", "said"),
    [
        *((f'{{"original_pixels": {value}}}', "expected true or false") for value in ("1", "0", '"yes"', '""', "null")),
        *((text, "expected an object") for text in ("[]", "3", '["original_pixels"]')),
        ('{"original_pixels": true}', "for models that answer boxes"),
    ],
)
def test_parameters_are_held_against_the_rules_of_the_embedded_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, said: str
) -> None:
    """Before a file is decoded: what is sent here is no image."""
    entry = write_entry(graph(tmp_path), tmp_path / "repository", settings(backend="python", encoded=True))
    files = {"images": np.array([[b"no image"]], np.object_)}
    (response,) = initialised(monkeypatch, entry).execute([Request(files, named)])
    assert said in response.error and response.error.kind == TritonError.INVALID_ARG


def test_files_of_a_request_without_boxes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = write_entry(graph(tmp_path), tmp_path / "repository", settings(backend="python", encoded=True))
    pixels, file = images(1), io.BytesIO()
    Image.fromarray(pixels[0]).save(file, "PNG")
    sent = {"images": np.array([[file.getvalue()]], np.object_)}
    expected = Graph(graph(tmp_path)).run(pixels)["probabilities"]
    loaded = initialised(monkeypatch, entry)
    for named in ("", "{}", '{"original_pixels": false, "other": [1]}'):
        (response,) = loaded.execute([Request(sent, named)])
        np.testing.assert_allclose(response.output_tensors[0].values, expected, atol=1e-6)
