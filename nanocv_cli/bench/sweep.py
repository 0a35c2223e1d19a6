"""A sweep: the server is given one configuration after the other, and each is measured."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path
from typing import Any

from nanocv_cli.bench.image_payload import image_payloads
from nanocv_cli.bench.load import Connection, GrpcConnection, HttpConnection
from nanocv_cli.bench.measure import Figures, Plan, measure
from nanocv_cli.bench.payload import FILLINGS, Payload, as_grpc, as_http, build_payload
from nanocv_cli.bench.server_api import ServerApi, described_by
from nanocv_cli.engine.identity import tls_context
from nanocv_cli.errors import RequestError, ServingError

Config = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What a sweep varies; None for what the server does not tell."""

    max_batch: int | None
    queue_delay_us: int | None
    instances: int | None


@dataclass(frozen=True)
class Row:
    """One measured configuration."""

    setting: Setting
    concurrency: int
    figures: Figures

    def to_json(self) -> dict[str, object]:
        """One flat object."""
        return {**vars(self.setting), "concurrency": self.concurrency, **self.figures.to_json()}


@dataclass(frozen=True)
class Target:
    """The model that is measured, and where.

    Attributes:
        api: of its server.
        model: its name.
        protocol: http or grpc.
        grpc: `host:port` of the gRPC side, for that protocol.
    """

    api: ServerApi
    model: str
    protocol: str
    grpc: str

    def connector(self, payloads: Sequence[Payload]) -> Callable[[], Connection]:
        """Opens connections that ask for the payloads in turn, each beginning with another one."""
        is_grpc, starts = self.protocol == "grpc", count()
        requests = [as_grpc(one) if is_grpc else as_http(one, self.api.address) for one in payloads]
        context = tls_context() if self.api.is_secure and not is_grpc else None

        def connect() -> Connection:
            start = next(starts) % len(requests)
            own = requests[start:] + requests[:start]
            if is_grpc:
                return GrpcConnection(self.grpc, own, self.api.is_secure)
            return HttpConnection(self.api.address, own, context)

        return connect


def settings(max_batches: Iterable[int], delays: Iterable[int], instances: Iterable[int]) -> list[Setting]:
    """All combinations: by instances, then batch, then delay."""
    return [Setting(batch, delay, count) for count, batch, delay in product(instances, max_batches, delays)]


def present_setting(config: Config) -> Setting:
    """What a server's config says of the three."""
    batching = config.get("dynamic_batching") or {}
    groups = config.get("instance_group") or [{}]
    return Setting(
        int(config.get("max_batch_size", 0)),
        int(batching.get("max_queue_delay_microseconds", 0)),
        sum(int(group.get("count", 1)) for group in groups),
    )


def with_setting(config: Config, setting: Setting) -> Config:
    """The config with the three changed, and what depends on them made to fit."""
    changed = copy.deepcopy(config)
    batch, delay = setting.max_batch or 0, setting.queue_delay_us or 0
    changed["max_batch_size"] = batch
    batching = changed.setdefault("dynamic_batching", {})
    batching["max_queue_delay_microseconds"] = delay
    batching["preferred_batch_size"] = []  # the full batch, which is what the sweep varies
    groups = changed.get("instance_group") or [{"kind": "KIND_CPU"}]
    changed["instance_group"] = [{**groups[0], "count": setting.instances or 1}]
    changed["model_warmup"] = [
        warmup for warmup in changed.get("model_warmup", []) if int(warmup.get("batch_size", 0)) <= batch
    ]
    return changed


def run_sweep(
    target: Target,
    wanted: list[Setting] | None,
    plan: Plan,
    filling: str,
    shapes: dict[str, tuple[int, ...]],
    progress: Callable[[int, int, str], None],
) -> list[Row]:
    """Measures all settings, or the present one where none is wanted; the server then has its own config again.

    Args:
        target: the model and its server.
        wanted: what to measure.
        plan: how each is measured.
        filling: random, zeros, or a folder of images.
        shapes: of inputs whose sizes vary.
        progress: told (done, total, what is being done).

    Raises:
        RequestError: the request does not fit the model.
        ServingError: the server is gone, refuses a config, or answers no request.
    """
    metadata = target.api.metadata(target.model)
    config = _config(target)
    with described_by(target.api.address):
        version = str((metadata.get("versions") or ["1"])[-1])
    if config is None and wanted is not None:
        raise ServingError(
            f"the server at {target.api.address} does not tell a model's config, so it cannot be changed",
            "leave out --max-batch, --queue-delay-us and --instances to measure it as it is",
        )
    with described_by(target.api.address):
        present = present_setting(config) if config else Setting(None, None, None)
        changed = [with_setting(config, setting) for setting in wanted or []] if config else []
        batched = bool(present.max_batch) if config else _looks_batched(metadata)
        if filling in FILLINGS:
            payloads = [build_payload(metadata, target.model, plan.rows, filling, shapes, batched)]
        else:
            payloads = image_payloads(metadata, config, target.model, plan.rows, Path(filling), batched)
    smallest = min((setting.max_batch or 0 for setting in wanted or []), default=None)
    if smallest is not None and plan.rows > smallest:
        raise RequestError(
            f"--request-batch {plan.rows} is more than the smallest --max-batch, {smallest}", "ask for fewer rows"
        )
    rows: list[Row] = []
    todo = wanted or [present]
    try:
        for number, setting in enumerate(todo):
            if changed:
                _configure(target, changed[number])

            def tell(windows: int, number: int = number, setting: Setting = setting) -> None:
                progress(number, len(todo), f"{describe(setting)}, window {windows}")

            tell(0)
            figures = measure(
                target.connector(payloads),
                replace(plan, rows=payloads[0].rows),
                lambda: target.api.counters(target.model, version),
                tell,
            )
            rows.append(Row(setting, plan.concurrency, figures))
            progress(number + 1, len(todo), describe(setting))
    finally:
        if changed and config is not None:
            # Triton takes an unchanged file for loaded already, so the former config is sent too.
            target.api.load(target.model, config)
    return rows


def describe(setting: Setting) -> str:
    """A setting in words."""
    if setting.max_batch is None:
        return "as it is"
    return f"max batch {setting.max_batch}, delay {setting.queue_delay_us} us, instances {setting.instances}"


def _config(target: Target) -> Config | None:
    try:
        return target.api.config(target.model)
    except ServingError:
        return None


def _configure(target: Target, config: Config) -> None:
    try:
        target.api.load(target.model, config)
    except ServingError as error:
        raise ServingError(
            f"the server could not be given another config: {error.message}",
            "start it with nanocv serve run --control explicit (a Triton: --model-control-mode=explicit), or leave the "
            "sweep's options out to measure it as it is",
        ) from error


def _looks_batched(metadata: dict[str, Any]) -> bool:
    return all(tensor["shape"] and int(tensor["shape"][0]) == -1 for tensor in metadata["inputs"])
