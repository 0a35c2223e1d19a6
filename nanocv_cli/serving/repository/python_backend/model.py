"""Runs `model.onnx`, which lies beside this file, by ONNX Runtime inside Triton's Python backend.

Written by `nanocv serve config --backend python`. It needs numpy (1.26 or newer) and onnxruntime in the Python
that Triton's backend runs, and nothing of nanocv. An entry whose clients send images as files needs pillow too, and
`nanocv_images.zip` beside the version's folder: the source of nanocv's functions that read them.
"""

import json
import os
import sys
import time
from dataclasses import replace
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when ONNX Runtime is imported

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils  # provided by Triton

GRAPH = "model.onnx"
IMAGES_ARCHIVE = "nanocv_images.zip"
CARD, BOXES = "nanocv.card", "nanocv.boxes"  # parameters of the config
FATAL_ONLY = 4  # ONNX Runtime's log level: a failure is answered, not printed


class TritonPythonModel:
    """One instance of the model, as the Python backend calls it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the graph.

        Args:
            args: Triton's: the model's config as JSON, its folder, version, and the instance's kind and device.
        """
        config = json.loads(args["model_config"])
        path = os.path.join(args["model_repository"], args["model_version"], GRAPH)  # noqa: PTH118
        onnxruntime.disable_telemetry_events()
        self._session = onnxruntime.InferenceSession(path, _options(config), providers=_providers(args))
        self._inputs = [entry["name"] for entry in config["input"]]
        self._outputs = [entry["name"] for entry in config["output"]]
        types = {tensor.name: tensor.type for tensor in self._session.get_inputs()}
        first = config["input"][0]
        takes_files = first["data_type"] == "TYPE_STRING" and types.get(first["name"]) == "tensor(uint8)"
        self._files = _Files(config, args["model_repository"]) if takes_files else None

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers the requests of one batch, in one run of the graph.

        If that run fails, each request is run by itself, so that only those that cause it are answered with an error.
        """
        read = [self._read(request) for request in requests]
        fit = [one for one in read if isinstance(one, _Read)]
        answers = iter(self._answers(fit))
        return [next(answers) if isinstance(one, _Read) else one for one in read]

    def finalize(self) -> None:
        """Gives the session's memory back."""
        del self._session

    def _read(self, request: Any) -> Any:
        """A request as it is run, or the answer to one that cannot be."""
        try:
            given = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            if self._files is None:
                return _Read(given)
            ((name, files),) = given.items()
            boxes = self._files.boxes_for(request)
            squares, sizes = self._files.decoded(files)
            return _Read({name: squares}, boxes, sizes)
        except Exception as error:
            return _refusal(error)

    def _answers(self, read: "list[_Read]") -> list[Any]:
        if len(read) < 2:
            return [self._alone(one) for one in read]
        try:
            joined = {name: np.concatenate([one.feed[name] for one in read]) for name in self._inputs}
            lengths = [len(one.feed[self._inputs[0]]) for one in read]
            outputs = self._run(joined, sum(lengths))
        except Exception:
            return [self._alone(one) for one in read]
        ends = np.cumsum(lengths)
        return [
            self._response(one, [rows[end - length : end] for rows in outputs])
            for one, length, end in zip(read, lengths, ends, strict=True)
        ]

    def _alone(self, read: "_Read") -> Any:
        try:
            return self._response(read, self._run(read.feed, len(read.feed[self._inputs[0]])))
        except Exception as error:
            return _refusal(error)

    def _response(self, read: "_Read", rows: list[Any]) -> Any:
        if self._files is not None and read.boxes:
            rows = [
                self._files.in_pixels(values, read.sizes) if name in read.boxes else values
                for name, values in zip(self._outputs, rows, strict=True)
            ]
        return _response(self._outputs, rows)

    def _run(self, feed: dict[str, Any], rows: int) -> list[Any]:
        """The outputs in the config's order.

        Raises:
            RuntimeError: one has not as many rows as went in, so that they could not be told apart.
        """
        outputs: list[Any] = self._session.run(self._outputs, feed)
        for name, values in zip(self._outputs, outputs, strict=True):
            if len(values) != rows:
                raise RuntimeError(f"output {name} has {len(values)} rows for {rows} of input")
        return outputs


class _RequestError(Exception):
    """The client has to mend it."""


class _Read:
    """A request whose inputs are as the graph takes them.

    Args:
        feed: by name, each with its rows first.
        boxes: outputs that the client wants in pixels of its images.
        sizes: their widths and heights.
    """

    def __init__(self, feed: dict[str, Any], boxes: Any = (), sizes: Any = ()) -> None:
        self.feed, self.boxes, self.sizes = feed, boxes, sizes


class _Files:
    """Images that clients send as files, read by nanocv's own functions, which lie beside the version's folder.

    Args:
        config: the model's.
        folder: of the entry.
    """

    def __init__(self, config: dict[str, Any], folder: str) -> None:
        sys.path.insert(0, os.path.join(folder, IMAGES_ARCHIVE))  # noqa: PTH118
        from nanocv_cli.images import bounds, resize

        self._bounds, self._resize = bounds, resize
        parameters = config["parameters"]
        card = json.loads(parameters[CARD]["string_value"])
        self._side, self._rule = card["input_size"], card["resize"]
        self._boxes = [name for name in parameters.get(BOXES, {}).get("string_value", "").split(",") if name]

    def decoded(self, files: Any) -> tuple[Any, list[tuple[int, int]]]:
        """N images as uint8 [N,S,S,3], and their widths and heights in pixels."""
        squares, sizes = np.empty((files.size, self._side, self._side, 3), np.uint8), []
        for place, content in enumerate(files.ravel()):
            deadline = time.monotonic() + self._bounds.SECONDS_FOR_STRANGERS
            bounds = replace(self._bounds.FROM_STRANGERS, deadline=deadline)
            try:
                squares[place], size = self._resize.open_square(bytes(content), self._side, self._rule, bounds)
            except self._resize.UnreadableImageError as error:
                raise _RequestError(f"the image cannot be read: {error}") from error
            sizes.append(size)
        return squares, sizes

    def boxes_for(self, request: Any) -> list[str]:
        """The outputs that a request wants in pixels of its images."""
        parameters = json.loads(request.parameters() or "{}")
        if not isinstance(parameters, dict):
            raise _RequestError("Unable to parse 'parameters': expected an object")
        wanted = parameters.get("original_pixels", False)
        if not isinstance(wanted, bool):
            raise _RequestError("Unable to parse parameter 'original_pixels': expected true or false")
        if wanted and not self._boxes:
            raise _RequestError("'original_pixels' is for models that answer boxes")
        return self._boxes if wanted else []

    def in_pixels(self, shares: Any, sizes: list[tuple[int, int]]) -> Any:
        """Boxes as shares of the square, float [N,K,4] x0 y0 x1 y1, in pixels of the images."""
        return self._resize.boxes_in_pixels(shares, sizes, self._rule)


def _options(config: dict[str, Any]) -> Any:
    """Session options from the same parameters that Triton's onnxruntime backend reads."""
    parameters = {key: entry.get("string_value", "") for key, entry in config.get("parameters", {}).items()}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count") or 0)
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count") or 0)
    if int(parameters.get("execution_mode") or 0):
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    return options


def _providers(args: dict[str, str]) -> list[Any]:
    """The GPU of this instance if it is one for a GPU and ONNX Runtime was built for it, else the CPU."""
    cuda = "CUDAExecutionProvider"
    if args.get("model_instance_kind") == "GPU" and cuda in onnxruntime.get_available_providers():
        return [(cuda, {"device_id": int(args.get("model_instance_device_id") or 0)}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def _refusal(error: Exception) -> Any:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    kinds = pb_utils.TritonError
    kind = kinds.INVALID_ARG if isinstance(error, _RequestError) else kinds.INTERNAL
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(line[:500], kind))


def _response(names: list[str], rows: list[Any]) -> Any:
    tensors = [pb_utils.Tensor(name, np.ascontiguousarray(values)) for name, values in zip(names, rows, strict=True)]
    return pb_utils.InferenceResponse(output_tensors=tensors)
