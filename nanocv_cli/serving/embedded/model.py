"""One version of a model, loaded: its graph in as many copies as the config asks for, its queue, its counters."""

import math
import time
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.engine.card import METADATA_KEY, ModelCard
from nanocv_cli.engine.signature import NUMPY_TYPES
from nanocv_cli.errors import ModelError
from nanocv_cli.images.bounds import FROM_STRANGERS
from nanocv_cli.images.resize import open_square
from nanocv_cli.serving.embedded import graph_settings, plan
from nanocv_cli.serving.embedded.backends import MEND
from nanocv_cli.serving.embedded.encoding import Array, from_bytes
from nanocv_cli.serving.embedded.entry_files import (
    LARGEST_WARM_UP,
    read_graph,
    read_labels,
    read_warmup,
    refuse_external_data,
)
from nanocv_cli.serving.embedded.faults import Fault, Status, about
from nanocv_cli.serving.embedded.job_queue import Job
from nanocv_cli.serving.embedded.limits import ModelLimits
from nanocv_cli.serving.embedded.outlines import Outlines
from nanocv_cli.serving.embedded.scheduler import Answers, Deliver, Finish, Scheduler
from nanocv_cli.serving.embedded.session import Session, sessions
from nanocv_cli.serving.embedded.statistics import Execution, Statistics
from nanocv_cli.serving.embedded.watchdog import Watchdog
from nanocv_cli.untrusted import printable


class LoadedModel:
    """A model version that answers.

    Args:
        entry: the model's folder in the repository.
        version: the sub-folder to load.
        config: the entry's config, as read and found supported and within bounds.
        deliver: takes the answers of each batch; see `Scheduler`.
        watchdog: ends what takes too long.
        limits: what it may take.
        deadline: of `time.monotonic`, by which it is to be loaded.

    Attributes:
        name: of the model.
        version: its number.
        config: with Triton's defaults filled in.
        inputs: those of the config as the graph takes them.
        takes_files: whether clients send images as files, which become what the graph takes before they come here.
        labels: class names by output, for those that have a label file.
        settings: numbers that requests may name; see `graph_settings`.
        statistics: what it has done.
        outlines: what it was asked before.

    Raises:
        ModelError: the graph is damaged, does not fit the config, or fails its warm-up, or all that takes too long.
    """

    def __init__(
        self,
        entry: Path,
        version: int,
        config: pb.ModelConfig,
        deliver: Deliver,
        watchdog: Watchdog,
        limits: ModelLimits,
        deadline: float,
    ) -> None:
        self.name, self.version = config.name, version
        graph = read_graph(entry, version, config)
        refuse_external_data(graph, config.name)
        copies = sessions(graph, config, watchdog, limits, deadline)
        del graph
        signature = copies[0].copy.signature
        self.config = plan.completed(config, signature.inputs, signature.outputs)
        self.settings = graph_settings.offered(config, signature)
        self.inputs = plan.graph_inputs(self.config, signature.inputs)
        self.takes_files = self.inputs != list(self.config.input)
        if self.takes_files:
            _ = self.card
        self._entry = entry
        self.labels = {
            output.name: read_labels(entry, output.label_filename, self.name)
            for output in self.config.output
            if output.label_filename
        }
        self.statistics, self.outlines = Statistics(), Outlines()
        self._outputs = {output.name: output for output in self.config.output}
        self._output_names = list(self._outputs)
        self._reshaped = {i.name: tuple(i.reshape.shape) for i in self.inputs if i.HasField("reshape")}
        for session in copies:
            self._warm_up(session, deadline)
        self._scheduler = Scheduler(
            self.name,
            plan.rules(self.config),
            [partial(self._execute, session) for session in copies],
            deliver,
            lambda job, reason: self.statistics.failed(job.arrived, reason),
        )
        for number, session in enumerate(copies):
            session.lost = partial(self._scheduler.lose, number, "a run of its graph does not stop")

    @cached_property
    def card(self) -> ModelCard:
        """The model card that travels with the entry.

        Raises:
            ModelError: there is none, or it is damaged.
        """
        metadata = {key: value.string_value for key, value in self.config.parameters.items() if key == METADATA_KEY}
        return ModelCard.from_metadata(metadata, f"model '{self.name}'")

    @property
    def waiting(self) -> int:
        """Requests in its queue."""
        return self._scheduler.waiting

    @property
    def failure(self) -> str:
        """Why it answers no requests any more; empty while it does."""
        return self._scheduler.failure

    def submit(self, job: Job) -> None:
        """Queues a request; see `Scheduler.submit`."""
        self._scheduler.submit(job)

    def abandon(self, job: Job) -> None:
        """The client of this job is gone."""
        self._scheduler.abandon(job)

    def close(self, timeout: float) -> bool:
        """Finishes what is queued, within `timeout` seconds; see `Scheduler.close`."""
        return self._scheduler.close(timeout)

    def _execute(self, session: Session, batch: list[Job]) -> Finish:
        """Runs a batch; if that fails its jobs run alone, so that only the bad one is refused."""
        started = time.monotonic_ns()
        try:
            feeds = {name: self._joined(name, [job.inputs[name] for job in batch]) for name in batch[0].inputs}
            feeds |= graph_settings.feeds(self.settings, batch[0].settings)
            loaded = time.monotonic_ns()
            found = session.run(self._output_names, feeds)
            computed = time.monotonic_ns()
            rows = sum(job.rows for job in batch)
            outputs = {name: self._checked(name, array, rows) for name, array in zip(self._outputs, found, strict=True)}
        except Fault as fault:  # it was stopped: each job alone might take as long once more
            return partial(self._refused, batch, fault.message, fault.status)
        except Exception as error:  # whatever a graph does to its runtime, the server stays up
            if len(batch) > 1:
                alone = [self._execute(session, [job]) for job in batch]
                return lambda: [answer for finish in alone for answer in finish()]
            why = f"{session.copy.runtime} error: {session.copy.reason(error)}"
            return partial(self._refused, batch, why, Status.INTERNAL)
        return partial(self._answered, batch, outputs, started, loaded, computed)

    def _answered(
        self, batch: list[Job], outputs: dict[str, Array], started: int, loaded: int, computed: int
    ) -> Answers:
        """Cuts a batch's outputs apart and counts it."""
        cutting = time.monotonic_ns()
        answers: Answers = []
        first = 0
        for job in batch:
            job.queue_ns, job.compute_ns = started - job.arrived, computed - started
            last = first + job.rows
            answers.append((job, {n: a[first:last] if self.config.max_batch_size else a for n, a in outputs.items()}))
            first = last
        arrivals = tuple(job.arrived for job in batch)
        self.statistics.ran(Execution(first, arrivals, started, loaded, computed, cutting, time.monotonic_ns()))
        return answers

    def _refused(self, batch: list[Job], why: str, status: Status) -> Answers:
        for job in batch:
            self.statistics.failed(job.arrived, "BACKEND")
        return [(job, Fault(about(job.request_id, why), status, "BACKEND")) for job in batch]

    def _joined(self, name: str, arrays: list[Array]) -> Array:
        joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        if name in self._reshaped:
            rows = joined.shape[:1] if self.config.max_batch_size else ()
            joined = joined.reshape((*rows, *self._reshaped[name]))
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

    def _warm_up(self, session: Session, deadline: float) -> None:
        """Runs the config's samples.

        Raises:
            ModelError: the graph fails on one, or they take too long.
        """
        for sample in self.config.model_warmup:
            feeds = {name: self._sample(sample, name, tensor) for name, tensor in sample.inputs.items()}
            for _ in range(max(1, sample.count)):
                try:
                    session.run(self._output_names, feeds, deadline)
                except Exception as error:  # as above; a run that was stopped is a `Fault`
                    why = error.message if isinstance(error, Fault) else session.copy.reason(error)
                    raise ModelError(
                        f"{self.name}: warm-up '{printable(sample.name)}' failed: {why}", "mend model_warmup"
                    ) from error

    def _sample(self, sample: pb.ModelWarmup, name: str, tensor: pb.ModelWarmup.Input) -> Array:
        """Zeros, or as many numbers from 0 to 126, always the same, or what a file of the entry holds.

        Raises:
            ModelError: that file cannot be used, or the sample is too large.
        """
        rows = (max(1, sample.batch_size),) if self.config.max_batch_size else ()
        kind, shape = NUMPY_TYPES[plan.datatype(tensor.data_type)], (*rows, *tensor.dims)
        if tensor.HasField("input_data_file"):
            return self._joined(name, [self._from_file(name, tensor, rows)])
        if kind is np.object_:
            return self._joined(name, [np.full(shape, b"", object)])
        if not tensor.random_data:
            return self._joined(name, [np.zeros(shape, kind)])
        return self._joined(name, [np.random.default_rng(0).integers(0, 127, shape, np.uint8).astype(kind, copy=False)])

    def _from_file(self, name: str, tensor: pb.ModelWarmup.Input, rows: tuple[int, ...]) -> Array:
        """One row of a warm-up sample, from a file, as often as the sample has rows."""
        content = read_warmup(self._entry, tensor.input_data_file, self.name)
        array = from_bytes(content, plan.datatype(tensor.data_type), (1,) * len(rows) + tuple(tensor.dims))
        if array is None:
            raise ModelError(f"{self.name}: input_data_file '{tensor.input_data_file}' does not fit {name}", MEND)
        if self.takes_files:
            side, rule = self.card.input_size, self.card.resize
            array = np.stack([open_square(file, side, rule, FROM_STRANGERS)[0] for file in array.flat])
        if math.prod(rows) * array.nbytes > LARGEST_WARM_UP:
            raise ModelError(f"{self.name}: a sample of model_warmup has more than {LARGEST_WARM_UP:,} bytes", MEND)
        return np.repeat(array, rows[0], axis=0) if rows else array
