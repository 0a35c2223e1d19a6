"""One version of a model, loaded: its graph in as many copies as the config asks for, its queue, its counters."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.errors import ModelError
from nanocv_cli.inference.runner import FATAL_ONLY, first_line, graph_signature
from nanocv_cli.serving.datatypes import NUMPY_TYPES
from nanocv_cli.serving.embedded import plan
from nanocv_cli.serving.embedded.faults import Fault, Status, about
from nanocv_cli.serving.embedded.jobs import Answers, Deliver, Finish, Job
from nanocv_cli.serving.embedded.scheduler import Scheduler
from nanocv_cli.serving.embedded.statistics import Execution, Statistics
from nanocv_cli.serving.embedded.tensors import Array
from nanocv_cli.serving.repository.python_backend import SHIPPED_MODEL_PY

MEMORY_LIMIT_LABELS = 1 << 20


class LoadedModel:
    """A model version that answers.

    Args:
        entry: the model's folder in the repository.
        version: the sub-folder to load.
        config: the entry's config, as read and found supported.
        deliver: takes the answers of each batch; see `Scheduler`.

    Attributes:
        name: of the model.
        version: its number.
        config: with Triton's defaults filled in.
        labels: class names by output, for those that have a label file.
        statistics: what it has done.

    Raises:
        ModelError: the graph is damaged, does not fit the config, or fails its warm-up.
    """

    def __init__(self, entry: Path, version: int, config: pb.ModelConfig, deliver: Deliver) -> None:
        self.name, self.version = config.name, version
        graph = _graph_of(entry / str(version), config)
        sessions = [_session(graph, config, device) for device in _devices(config)]
        signature = graph_signature(sessions[0])
        self.config = plan.completed(config, signature.inputs, signature.outputs)
        # One set of weights would do for all copies, but ONNX Runtime shares none between sessions.
        sessions += [_session(graph, config, device) for device in _devices(self.config)[len(sessions) :]]
        self.labels = {o.name: _labels(entry / o.label_filename) for o in self.config.output if o.label_filename}
        self.statistics = Statistics()
        self._outputs = {output.name: output for output in self.config.output}
        self._output_names = list(self._outputs)
        self._reshaped = {i.name: tuple(i.reshape.shape) for i in self.config.input if i.HasField("reshape")}
        for session in sessions:
            self._warm_up(session)
        self._scheduler = Scheduler(
            self.name,
            plan.rules(self.config),
            [lambda batch, session=session: self._execute(session, batch) for session in sessions],  # type: ignore[misc]
            deliver,
            lambda job, reason: self.statistics.failed(job.arrived, reason),
        )

    @property
    def waiting(self) -> int:
        """Requests in its queue."""
        return self._scheduler.waiting

    def submit(self, job: Job) -> None:
        """Queues a request; see `Scheduler.submit`."""
        self._scheduler.submit(job)

    def abandon(self, job: Job) -> None:
        """The client of this job is gone."""
        self._scheduler.abandon(job)

    def close(self, timeout: float) -> bool:
        """Finishes what is queued, within `timeout` seconds; see `Scheduler.close`."""
        return self._scheduler.close(timeout)

    def _execute(self, session: Any, batch: list[Job]) -> Finish:
        """Runs a batch; if that fails its jobs run alone, so that only the bad one is refused."""
        started = time.monotonic_ns()
        try:
            feeds = {name: self._joined(name, [job.inputs[name] for job in batch]) for name in batch[0].inputs}
            loaded = time.monotonic_ns()
            found = session.run(self._output_names, feeds)
            computed = time.monotonic_ns()
            rows = sum(job.rows for job in batch)
            outputs = {name: self._checked(name, array, rows) for name, array in zip(self._outputs, found, strict=True)}
        except Exception as error:  # whatever a graph does to ONNX Runtime, the server stays up
            if len(batch) > 1:
                alone = [self._execute(session, [job]) for job in batch]
                return lambda: [answer for finish in alone for answer in finish()]
            return partial(self._refused, batch[0], first_line(error))
        return partial(self._answered, batch, outputs, started, loaded, computed)

    def _answered(
        self, batch: list[Job], outputs: dict[str, Array], started: int, loaded: int, computed: int
    ) -> Answers:
        """Cuts a batch's outputs apart and counts it."""
        cutting = time.monotonic_ns()
        answers: Answers = []
        first = 0
        for job in batch:
            last = first + job.rows
            answers.append((job, {n: a[first:last] if self.config.max_batch_size else a for n, a in outputs.items()}))
            first = last
        arrivals = tuple(job.arrived for job in batch)
        self.statistics.ran(Execution(first, arrivals, started, loaded, computed, cutting, time.monotonic_ns()))
        return answers

    def _refused(self, job: Job, why: str) -> Answers:
        self.statistics.failed(job.arrived, "BACKEND")
        message = about(job.request_id, f"onnx runtime error: {why}")
        return [(job, Fault(message, Status.INTERNAL, "BACKEND"))]

    def _joined(self, name: str, arrays: list[Array]) -> Array:
        joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        if name in self._reshaped:
            joined = joined.reshape((*joined.shape[:1], *self._reshaped[name]))
        if joined.dtype == np.object_:
            return np.array([text.decode("utf-8", "replace") for text in joined.ravel()], object).reshape(joined.shape)
        return joined

    def _checked(self, name: str, array: Array, rows: int) -> Array:
        """An output with a row for each of the batch's, in the shape that the config promises."""
        config = self._outputs[name]
        if self.config.max_batch_size and (not array.shape or array.shape[0] != rows):
            raise ValueError(f"output '{name}' has shape {list(array.shape)} for a batch of {rows}")
        if config.HasField("reshape"):
            return array.reshape((rows, *config.dims) if self.config.max_batch_size else tuple(config.dims))
        return array

    def _warm_up(self, session: Any) -> None:
        for sample in self.config.model_warmup:
            random = np.random.default_rng(0)
            feeds: dict[str, Array] = {}
            for name, tensor in sample.inputs.items():
                batch = (max(1, sample.batch_size),) if self.config.max_batch_size else ()
                kind = NUMPY_TYPES[plan.datatype(tensor.data_type)]
                shape = (*batch, *tensor.dims)
                zeros = np.full(shape, b"", object) if kind is np.object_ else np.zeros(shape, kind)
                drawn = tensor.random_data and kind is not np.object_
                feeds[name] = self._joined(name, [(random.random(shape) * 127).astype(kind) if drawn else zeros])
            for _ in range(max(1, sample.count)):
                try:
                    session.run(None, feeds)
                except Exception as error:  # as above
                    raise ModelError(
                        f"{self.name}: warm-up '{sample.name}' failed: {first_line(error)}", "mend model_warmup"
                    ) from error


def _graph_of(folder: Path, config: pb.ModelConfig) -> Path:
    """The ONNX file of a version; a Python entry has one if its script is nanocv's own, and no script is ever run."""
    if config.backend == "python":
        script = folder / (config.default_model_filename or plan.SCRIPT)
        if not script.is_file() or script.read_bytes() != SHIPPED_MODEL_PY.read_bytes():
            raise ModelError(
                f"{config.name}: the embedded server runs no Python but nanocv's own model.py",
                "serve this entry with --engine triton",
            )
        return folder / plan.GRAPH
    if config.backend not in ("", "onnxruntime"):
        raise ModelError(
            f"{config.name}: the embedded server has no backend '{config.backend}'", "serve it with --engine triton"
        )
    name = config.default_model_filename or plan.GRAPH
    if Path(name).name != name:
        raise ModelError(f"{config.name}: default_model_filename '{name}' is no plain file name", "mend config.pbtxt")
    return folder / name


def _devices(config: pb.ModelConfig) -> list[tuple[str, int]]:
    """Execution provider and device number of each copy; one CPU copy where the config names none."""
    kinds, there = pb.ModelInstanceGroup, onnxruntime.get_available_providers()
    has_gpu = "CUDAExecutionProvider" in there
    devices: list[tuple[str, int]] = []
    for group in config.instance_group:
        on_gpu = group.kind == kinds.KIND_GPU or (group.kind == kinds.KIND_AUTO and has_gpu)
        if on_gpu and not has_gpu:
            raise ModelError(
                f"{config.name}: instance_group asks for a GPU, and this ONNX Runtime has none",
                "use KIND_CPU (nanocv serve config --kind cpu), or install onnxruntime-gpu",
            )
        provider = "CUDAExecutionProvider" if on_gpu else "CPUExecutionProvider"
        devices += [(provider, gpu) for gpu in (group.gpus or [0]) for _ in range(max(1, group.count))]
    return devices or [("CPUExecutionProvider", 0)]


def _session(graph: Path, config: pb.ModelConfig, device: tuple[str, int]) -> Any:
    if not graph.is_file():
        raise ModelError(f"{config.name}: no graph {graph}", "nanocv serve config writes one")
    onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(FATAL_ONLY)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    values = {key: _number(config.name, key, value.string_value) for key, value in config.parameters.items()}
    options.intra_op_num_threads = values.get("intra_op_thread_count", 0)
    options.inter_op_num_threads = values.get("inter_op_thread_count", 0)
    options.enable_cpu_mem_arena = bool(values.get("enable_mem_arena", 1))
    options.enable_mem_pattern = bool(values.get("enable_mem_pattern", 1))
    if values.get("execution_mode"):
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    levels = onnxruntime.GraphOptimizationLevel
    if config.optimization.HasField("graph"):
        # Triton's numbers: -1 basic, 1 extended, 2 none.
        chosen = {-1: levels.ORT_ENABLE_BASIC, 1: levels.ORT_ENABLE_EXTENDED, 2: levels.ORT_DISABLE_ALL}
        options.graph_optimization_level = chosen.get(config.optimization.graph.level, levels.ORT_ENABLE_ALL)
    # Threads that spin while they wait for work would take the cores from those that receive and send.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider, number = device
    providers = [(provider, {"device_id": str(number)}) if provider.startswith("CUDA") else provider]
    try:
        return onnxruntime.InferenceSession(graph, options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise ModelError(
            f"{config.name}: {graph} cannot be loaded: {first_line(error)}", "export it again: nanocv export onnx"
        ) from error


def _number(model: str, key: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 4096:
        raise ModelError(f'{model}: parameters["{key}"] is "{text}", not a small number', "mend config.pbtxt")
    return int(text)


def _labels(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MEMORY_LIMIT_LABELS).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"label file {path} cannot be read", "nanocv serve config writes it again") from error
