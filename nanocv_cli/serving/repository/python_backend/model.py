"""Runs `model.onnx`, which lies beside this file, by ONNX Runtime inside Triton's Python backend.

Written by `nanocv serve config --backend python`. It needs numpy (1.26 or newer) and onnxruntime in the Python
that Triton's backend runs, and nothing of nanocv.
"""

import json
import os
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when ONNX Runtime is imported

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils  # provided by Triton

GRAPH = "model.onnx"
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

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers the requests of one batch, in one run of the graph.

        If that run fails, each request is run by itself, so that only those that cause it are answered with an error.
        """
        if len(requests) == 1:
            return [self._alone(requests[0])]
        try:
            read = [self._read(request) for request in requests]
            joined = {name: np.concatenate([one[name] for one in read]) for name in self._inputs}
            lengths = [len(one[self._inputs[0]]) for one in read]
            outputs = self._run(joined, sum(lengths))
        except Exception:
            return [self._alone(request) for request in requests]
        ends = np.cumsum(lengths)
        return [
            _response(self._outputs, [rows[end - length : end] for rows in outputs])
            for length, end in zip(lengths, ends, strict=True)
        ]

    def finalize(self) -> None:
        """Gives the session's memory back."""
        del self._session

    def _alone(self, request: Any) -> Any:
        try:
            feed = self._read(request)
            return _response(self._outputs, self._run(feed, len(feed[self._inputs[0]])))
        except Exception as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(line[:500]))

    def _read(self, request: Any) -> dict[str, Any]:
        """The request's inputs by name, each with its rows first."""
        return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}

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


def _response(names: list[str], rows: list[Any]) -> Any:
    tensors = [pb_utils.Tensor(name, np.ascontiguousarray(values)) for name, values in zip(names, rows, strict=True)]
    return pb_utils.InferenceResponse(output_tensors=tensors)
