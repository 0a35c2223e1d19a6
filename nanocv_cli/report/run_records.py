"""What a run folder says of itself: how it was asked for, its epochs, and how it ended."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from nanocv_cli.bench.baseline import OF_MODEL, OF_SERVER
from nanocv_cli.config.project import shown
from nanocv_cli.errors import RequestError
from nanocv_cli.foreign import read_json
from nanocv_cli.training.run_directory import RunDirectory


class Record(BaseModel):
    """A document of maybe another version of nanocv: what it lacks is None, what it adds is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, protected_namespaces=())


Drawn = Annotated[float, Field(ge=-1e12, le=1e12)]


class Epoch(Record):
    """One evaluated epoch."""

    epoch: int = Field(ge=0, le=1_000_000_000)
    train_loss: Drawn | None = None
    train_score: Drawn | None = None
    val_loss: Drawn | None = None
    val_score: Drawn | None = None
    learning_rate: float | None = None
    images_per_second: float | None = None
    seconds: float | None = None
    is_best: bool = False


class History(Record):
    """All evaluated epochs; `live` names the score while training."""

    live: str
    epochs: list[Epoch]


class Parity(Record):
    """How far the graph strays from its checkpoint, on how many images."""

    max_abs_error: float
    n: int


class Counted(Record):
    """How many tensors, and how many parameters are in them."""

    tensors: int
    parameters: int


class Started(Record):
    """What a run took over from another checkpoint when it began."""

    reference: str
    sha256: str
    taken: Counted
    new: Counted

    def text(self) -> str:
        """For people."""
        return (
            f"Started from {self.reference}: {self.taken.tensors:,} tensors of {self.taken.parameters:,} parameters "
            f"were taken over, {self.new.tensors:,} of {self.new.parameters:,} were new. "
            f"SHA-256 of the file: {self.sha256}"
        )


class Summary(Record):
    """How a run ended."""

    epochs: int | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    split: str | None = None
    metrics: dict[str, Any] = {}
    pictures: list[str] = []
    device: str | None = None
    versions: dict[str, str] = {}
    parity: Parity | None = None
    start: Started | None = None


class ModelBenchRow(Record):
    """A graph at one setting; times in microseconds."""

    engine: str = "onnxruntime"
    precision: str
    batch_size: int
    threads: int
    device: str = "cpu"
    p50_us: float
    p99_us: float
    throughput: float


class ModelBench(Record):
    """What `nanocv bench model` found, and when."""

    rows: list[ModelBenchRow]
    when: str


class ServerBenchRow(Record):
    """A server's configuration under load; times in microseconds."""

    max_batch: int
    queue_delay_us: int
    instances: int
    concurrency: int
    throughput: float
    p50_us: float
    p90_us: float
    p95_us: float
    p99_us: float
    errors: int
    stable: bool


class Choice(Record):
    """The row to use, and why."""

    row: int | None = None
    rule: str = ""


class ServerBench(Record):
    """What `nanocv bench server` found, and when."""

    rows: list[ServerBenchRow]
    choice: Choice
    conditions: dict[str, Any] = {}
    when: str


def read_model_bench(run: Path) -> ModelBench:
    """The last figures of `nanocv bench model`.

    Raises:
        RequestError, DataError: it was not run, or the file is damaged.
    """
    path = run / OF_MODEL
    return read_json(_benched(path, "nanocv bench model"), TypeAdapter(ModelBench), "run it again: nanocv bench model")


def read_server_bench(run: Path) -> ServerBench:
    """The last figures of `nanocv bench server`.

    Raises:
        RequestError, DataError: it was not run, or the file is damaged.
    """
    path = run / OF_SERVER
    return read_json(
        _benched(path, "nanocv bench server"), TypeAdapter(ServerBench), "run it again: nanocv bench server"
    )


def _benched(path: Path, command: str) -> Path:
    if not path.is_file():
        raise RequestError(f"{command} was not run for it", f"{command} --model {shown(path.parent)}")
    return path


def read_origins(run: Path) -> dict[str, str]:
    """Where each config value came from, by dotted key.

    Raises:
        RequestError, DataError: it was not kept, or is damaged.
    """
    return read_json(
        _kept(RunDirectory(run).origins), TypeAdapter(dict[str, str]), "the values themselves stand in config.yaml"
    )


def read_history(run: Path) -> History:
    """The epochs.

    Raises:
        RequestError, DataError: they were not kept, or the file is damaged.
    """
    return read_json(_kept(RunDirectory(run).history), TypeAdapter(History), "curves.png of the run may show them")


def read_summary(run: Path) -> Summary:
    """The end of the run.

    Raises:
        RequestError, DataError: it has not ended, or the file is damaged.
    """
    return read_json(
        _kept(RunDirectory(run).summary), TypeAdapter(Summary), "train it to its end: nanocv train --resume RUN"
    )


def _kept(path: Path) -> Path:
    if not path.is_file():
        raise RequestError(f"{path} is not there", "runs of earlier versions, and unfinished ones, do not have it")
    return path
