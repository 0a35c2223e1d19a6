"""`--engine auto`: the runtime that runs a model fastest on this machine, measured once and kept."""

import hashlib
import json
import platform
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from nanocv_cli.engine.engine import graph_source
from nanocv_cli.engine.runtimes import FP32, RUNTIMES, RunSettings, open_in_process, readers
from nanocv_cli.errors import ModelError, NanocvError, RequestError
from nanocv_cli.files import write_json
from nanocv_cli.machine import processor_name, usable_processors
from nanocv_cli.output import say
from nanocv_cli.untrusted import read_regular

if TYPE_CHECKING:
    from nanocv_cli.engine.engine import Engine

BATCH = 8
FEWEST_ROUNDS, MOST_ROUNDS, SECONDS = 3, 15, 2.0  # of all runtimes together
LARGEST_RECORD = 64 << 10  # bytes


@dataclass(frozen=True)
class Timing:
    """How long the runtimes take.

    Attributes:
        batch: images at a time.
        milliseconds: median for such a batch, by name of the runtime; those that cannot run the model are left out.
    """

    batch: int
    milliseconds: dict[str, float]

    @property
    def fastest(self) -> str:
        """The name of the fastest."""
        return min(self.milliseconds, key=self.milliseconds.__getitem__)


def with_fastest(path: Path, settings: RunSettings, cache: Path) -> RunSettings:
    """The settings with the fastest runtime in place of `auto`; says on stderr which it is.

    Args:
        path: an exported graph.
        settings: device, threads and precision that all of them are measured with.
        cache: folder where the figures are kept: they hold for this graph, machine, and these versions.

    Raises:
        RequestError: no runtime that is installed can do what the settings ask for.
        ModelError: none can run the graph.
    """
    able = [
        name
        for name in readers(path)
        if (row := RUNTIMES[name]).is_installed
        and settings.precision in row.precisions
        and (row.takes_defaults or not settings.with_defaults)
    ]
    if not able:
        raise RequestError(
            f"no engine that is installed reads {path.name} and computes in {settings.precision} as asked for",
            f"--precision {FP32}, or --engine {readers(path)[0]}",
        )
    if len(able) == 1:
        say(f"engine: {able[0]}, the only one installed that can do this")
        return replace(settings, runtime=able[0])
    record = cache / "engines" / f"{_key(path, settings, able)}.json"
    timing = _kept(record, able)
    if timing is None:
        timing = _measured(path, settings, able, cache)
        write_json(record, asdict(timing))
        how = "measured now, kept for the next time"
    else:
        how = "as measured before"
    told = ", ".join(f"{name} {took:.1f} ms" for name, took in timing.milliseconds.items())
    say(f"engine: {timing.fastest} ({told} for {timing.batch} at a time; {how})")
    return replace(settings, runtime=timing.fastest)


def _measured(path: Path, settings: RunSettings, names: list[str], cache: Path) -> Timing:
    """Times the runtimes in turns, so that a noisy moment falls on all alike."""
    engines: dict[str, Engine] = {}
    failures: list[NanocvError] = []
    for name in names:
        try:
            engine = open_in_process(path, replace(settings, runtime=name), cache)
            engine.answer(engine.example(1))
            engines[name] = engine
        except (ModelError, RequestError) as error:
            failures.append(error)
    if not engines:
        raise failures[0]
    batch = min(engine.most_rows or BATCH for engine in engines.values())
    given = {name: engine.example(batch) for name, engine in engines.items()}
    times: dict[str, list[float]] = {name: [] for name in engines}
    end = time.perf_counter() + SECONDS
    for number in range(MOST_ROUNDS + 1):
        if number > FEWEST_ROUNDS and time.perf_counter() > end:
            break
        for name, engine in engines.items():
            start = time.perf_counter()
            engine.answer(given[name])
            times[name].append(time.perf_counter() - start)
    # The first round of a batch size compiles for it.
    return Timing(batch, {name: 1e3 * median(found[1:]) for name, found in times.items()})


def _key(path: Path, settings: RunSettings, names: list[str]) -> str:
    """Changes with whatever may change which runtime is faster: graph, machine, settings, versions."""
    source = graph_source(path)
    content = Path(source).read_bytes() if isinstance(source, str) else source
    facts = [
        hashlib.sha256(content).hexdigest(),
        platform.machine(),
        processor_name(),
        usable_processors(),
        [settings.device, settings.threads, settings.precision],
        {name: _version(RUNTIMES[name].package) for name in names},
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _version(package: str) -> str:
    """Of a package; empty where it is installed under another name, as ONNX Runtime for GPUs is."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _kept(record: Path, names: list[str]) -> Timing | None:
    """What was measured before; None where nothing was, or the file cannot be read."""
    try:
        document: Any = json.loads(read_regular(record, LARGEST_RECORD))
        milliseconds = {name: float(took) for name, took in document["milliseconds"].items() if name in names}
        return Timing(int(document["batch"]), milliseconds) if milliseconds else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
